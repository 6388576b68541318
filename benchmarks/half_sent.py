"""Moved to benchmarks.failures.half_sent; the tests still import it from here."""

from benchmarks.failures.half_sent import HalfSentHeads as HalfSentHeads
