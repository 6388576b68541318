"""Micro-batching on the event loop, and threads beside it for requests that take long."""
