"""Makes the artifact, and compares it with the trained policy."""
