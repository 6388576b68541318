"""Stable-Baselines3's zips."""
