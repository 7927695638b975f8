"""Training of networks that register: their recipe, pairs, loss and package."""
