"""Scoring files of logged drives: the same policy, row by row, without a server."""
