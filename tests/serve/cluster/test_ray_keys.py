"""Under Ray, a replica starts only with the state key of who deployed the application."""

from __future__ import annotations

from pathlib import Path

import pytest
from remembering_export import exported_lstm

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


@pytest.mark.parametrize(
    ("secret", "expected", "found"),
    [("", KEY, "no POLICY_STATE_KEY"), (OTHER_KEY, KEY, "another POLICY_STATE_KEY"), (KEY, "", "a POLICY_STATE_KEY")],
)
def test_a_node_with_another_key_scores_no_part_of_a_policy_with_memory(
    secret: str, expected: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from serve.score.on_ray import RayScorer

    artifact = exported_lstm().artifact
    options = {"device": "cpu", "backend": "card", "trusted": (), "output": str(tmp_path), "key": name_of_key(expected)}
    monkeypatch.setenv("POLICY_STATE_KEY", secret)
    scorer = RayScorer(dict(artifact.files), artifact.digest, options, (), False)
    part = {"place": [0], "source": ["drives.parquet"], "groups": [[0]], "first": [0]}
    done = scorer(part)
    assert (done["rows"], done["where"]) == ([0], ["POLICY_STATE_KEY"])
    assert found in done["problem"][0]
    assert list(tmp_path.iterdir()) == []
