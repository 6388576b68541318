"""Follows which version the registry names, tries it in a process of its own, and has each worker load it."""
