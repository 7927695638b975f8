"""Training of networks that follow clicks: any labelled structure of any scan is one to click at."""
