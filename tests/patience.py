"""How long a test waits for what has to happen."""

PATIENCE_S = 600.0
"""Promises no speed: a machine may be slow, and others may use it. A test that needs it whole has failed."""
