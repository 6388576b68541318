"""A policy on disk: the folder, its digest, and the golden rows with the trained policy's answers."""
