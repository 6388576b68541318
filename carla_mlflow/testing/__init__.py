"""What any policy has to hold, to be run over one's own: an artifact here, or a server that answers somewhere.

    python -m carla_mlflow.testing my-policy/1.0.0
    python -m carla_mlflow.testing http://car-7:8080 --policy my-policy/1.0.0 --p99-ms 5

In a test of one's own, with pytest:

    from carla_mlflow.testing import CHECKS, Subject

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_policy_holds(check):
        check(Subject.open("my-policy/1.0.0"))
"""

from __future__ import annotations

from .conformance import CHECKS
from .subject import Subject

__all__ = ["CHECKS", "Subject"]
