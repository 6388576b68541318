"""Moved to benchmarks.policies.two_policies and benchmarks.support.encoding; the tests still import it from here."""

from benchmarks.policies.two_policies import NAME as NAME
from benchmarks.policies.two_policies import Questions as Questions
from benchmarks.policies.two_policies import small_policy as small_policy
from benchmarks.policies.two_policies import write as write
from benchmarks.support.encoding import rows_of as rows_of
