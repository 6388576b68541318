"""Policies saved by Stable-Baselines3 (model.zip)."""
