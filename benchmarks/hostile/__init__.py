"""Hostile requests, and whether a server handles them."""
