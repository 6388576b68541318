"""The conformance kit: checks that every policy has to pass, for an artifact's folder or a running server.

    python -m carla_mlflow.testing my-policy/1.0.0
    python -m carla_mlflow.testing http://car-7:8080 --policy my-policy/1.0.0 --p99-ms 5

In your own tests, with pytest:

    from carla_mlflow.testing import CHECKS, Subject

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_policy_holds(check):
        check(Subject.open("my-policy/1.0.0"))
"""

from __future__ import annotations

from .conformance import CHECKS
from .subject import Subject

__all__ = ["CHECKS", "Subject"]
