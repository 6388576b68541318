"""A policy on disk: the folder, its digest, and the golden rows that say what it answers."""
