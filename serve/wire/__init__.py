"""HTTP on a connection."""
