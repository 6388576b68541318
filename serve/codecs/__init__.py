"""Bytes ↔ arrays, by the spec: one file a protocol. Pure: no HTTP, no I/O."""
