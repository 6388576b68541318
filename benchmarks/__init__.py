"""Commands that measure and print what the documentation claims; README.md says which question each answers."""
