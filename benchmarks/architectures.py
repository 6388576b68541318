"""Moved to benchmarks.policies.architectures; the tests still import it from here."""

from benchmarks.policies.architectures import ARCHITECTURES as ARCHITECTURES
