"""Trains the example policy, and the checkpoint that it leaves."""
