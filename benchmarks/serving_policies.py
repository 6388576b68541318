"""Moved to benchmarks.support.encoding; the tests still import it from here."""

from benchmarks.support.encoding import from_v2 as from_v2
from benchmarks.support.encoding import to_v2 as to_v2
