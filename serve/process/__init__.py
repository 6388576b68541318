"""The worker processes, and the server that keeps them."""
