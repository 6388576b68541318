"""Moved to benchmarks.support.free_port; the tests still import it from here."""

from benchmarks.support.free_port import free_port as free_port
