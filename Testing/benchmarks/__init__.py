"""What is measured rather than tested: speed, memory, and the claims of the papers."""
