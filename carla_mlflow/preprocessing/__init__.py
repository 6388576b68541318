"""Preprocessing of observations, inside the graph or before it."""
