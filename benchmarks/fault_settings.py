"""Moved to benchmarks.failures.settings; the tests still import it from here."""

from benchmarks.failures.settings import OWN_DISK as OWN_DISK
