"""The engine: from observations to actions, with the same bits in any batch."""
