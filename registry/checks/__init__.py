"""Checks of a policy on this machine: integrity, parity, latency, and how far its actions differ from another's."""
