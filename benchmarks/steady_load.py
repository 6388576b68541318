"""Moved to benchmarks.support.steady_load; the tests still import it from here."""

from benchmarks.support.steady_load import SteadyLoad as SteadyLoad
