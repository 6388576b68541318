"""Requests of one moment in one forward, and those that take long beside the event loop."""
