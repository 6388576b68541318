"""Commands that print what is claimed."""
