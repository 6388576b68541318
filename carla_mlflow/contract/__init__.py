"""A policy's inputs and outputs: the card and its fields, observations, raw actions and control."""
