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

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .conformance import CHECKS
    from .subject import Subject

__all__ = ["CHECKS", "Subject"]

__getattr__, __dir__ = lazy_names(__name__, {"CHECKS": "conformance", "Subject": "subject"})
