"""How the suite itself runs."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("grouping")
def test_tests_of_one_group_run_in_one_worker(request: pytest.FixtureRequest):
    # With pytest 9.2, pytest-xdist 3.8 ignores groups without a word; every worker then makes what a group shares.
    assert request.node.nodeid.endswith("@grouping") or not getattr(request.config.option, "loadgroup", False)
