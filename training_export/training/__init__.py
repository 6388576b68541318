"""Training of the example policy, and its checkpoints."""
