"""HTTP/1.1 on the event loop: framing by the standard and nothing beside it, limits, deadlines."""
