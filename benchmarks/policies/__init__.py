"""Untrained policies that the benchmarks and the tests serve."""
