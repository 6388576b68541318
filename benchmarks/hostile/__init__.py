"""What strangers may send, and whether a server stands it."""
