"""Moved to benchmarks.failures.dripping; the tests still import it from here."""

from benchmarks.failures.dripping import DrippingRegistry as DrippingRegistry
