"""What is counted, logged and traced of what the server does."""
