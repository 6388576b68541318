"""A policy tried on this machine: whole, in parity, fast enough, and how far it is from another."""
