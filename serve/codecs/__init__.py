"""Bytes ↔ arrays, by the observation spec: one file per protocol. Pure: no HTTP, no I/O."""
