"""Commands that measure and print what the documentation claims."""
