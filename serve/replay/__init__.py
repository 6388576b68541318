"""Replays recordings: what drove, whether it gives the same bits again, and what another version would have done."""
