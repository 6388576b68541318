"""Moved to benchmarks.policies.networks; the tests still import it from here."""

from benchmarks.policies.networks import FULL_BRAKE as FULL_BRAKE
from benchmarks.policies.networks import UNIT as UNIT
from benchmarks.policies.networks import mlp as mlp
from benchmarks.policies.networks import small_view as small_view
