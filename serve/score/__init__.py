"""Scores files of logged drives: the actions of a policy, row by row, without a server."""
