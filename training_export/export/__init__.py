"""Writes the artifact, and holds it against the trained policy."""
