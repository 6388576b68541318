"""Moved to benchmarks.policies.bad_policies; the tests still import it from here."""

from benchmarks.policies.bad_policies import crashing as crashing
from benchmarks.policies.bad_policies import publish as publish
from benchmarks.policies.bad_policies import too_large as too_large
