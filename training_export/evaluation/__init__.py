"""Drives a policy, here or in the author's environment, and logs the episodes as evidence."""
