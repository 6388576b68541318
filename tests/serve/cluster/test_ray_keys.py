"""Under Ray, a replica starts only with the state key of who deployed the application."""

from __future__ import annotations

import pytest

from carla_mlflow.contract.state_token import name_of_key

pytest.importorskip("ray")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("ray")]
KEY, OTHER_KEY = "the-key-of-the-fleet", "the-key-of-others"


def test_what_is_deployed_names_the_key_without_telling_it(monkeypatch: pytest.MonkeyPatch):
    from serve.ray_app import policy

    def bound() -> str:
        return policy({"model": "carla-policy@production"})._bound_deployment.init_args[2]

    monkeypatch.setenv("POLICY_STATE_KEY", KEY)
    assert bound() == name_of_key(KEY)
    assert KEY not in name_of_key(KEY)
    monkeypatch.delenv("POLICY_STATE_KEY")
    assert bound() == ""


@pytest.mark.parametrize(("secret", "found"), [("", "no POLICY_STATE_KEY"), (OTHER_KEY, "another POLICY_STATE_KEY")])
def test_a_node_without_the_deployments_key_starts_no_replica(secret: str, found: str):
    from serve.ray_app import check_key

    check_key(KEY, name_of_key(KEY))
    check_key(secret, "")  # deployed without one
    with pytest.raises(RuntimeError, match=found):
        check_key(secret, name_of_key(KEY))
