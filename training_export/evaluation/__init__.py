"""Drives a policy on the racetrack or in the author's environment, and logs the episodes as evidence."""
