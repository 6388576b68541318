"""Episodes that somebody reports from a simulator elsewhere: read strictly, and never taken for our own driving."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_policies import cache_folder
from tests_support import command_here

from carla_mlflow import open_artifact
from carla_mlflow.errors import DrivingError
from registry.gates import episodes
from registry.moves.judge import promotion_gates
from registry.moves.promotion import promote
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.moves.terms import MoveOptions
from registry.rules.reference import parse_reference
from registry.store.evidence import find_evidence
from registry.store.store import Store
from training_export.__main__ import main
from training_export.evaluation.own_driving import OwnEpisode
from training_export.evaluation.reported import BASELINES, COLUMNS, read_reported

HEAD = ",".join(COLUMNS)


def report(folder: Path, *lines: str, head: str = HEAD) -> Path:
    path = folder / "report.csv"
    path.write_text("\n".join([head, *lines, ""]))
    return path


def test_a_report_is_read_by_driver_and_seed_with_other_columns_left_out(tmp_path: Path):
    head = "seed,town,reward,success,driver,collision"
    lines = ["8,5,-1.5,TRUE,policy,0", "7,5,2e1,false,policy,1", "7,5,0,0,random,true"]
    drives = read_reported(report(tmp_path, *lines[:2], head=head))
    assert drives == {
        "policy": [
            OwnEpisode(7, reward=20.0, collision=True, success=False),
            OwnEpisode(8, reward=-1.5, collision=False, success=True),
        ]
    }
    both = read_reported(report(tmp_path, *lines[:3], "8,5,1,1,random,0", head=f"\ufeff{head}"))
    assert [episode.seed for episode in both["random"]] == [7, 8]
    assert [episode.failed for episode in both["policy"]] == [True, False]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "has no episode of the driver 'policy'"),
        (["random,1,1,0,1"], "has no episode of the driver 'policy'"),
        (["me,1,1,0,1"], "line 2: driver 'me'; expected policy, baseline, straight_ahead, random"),
        (["policy,1,1,0,1", "policy,-2,1,0,1"], "line 3: seed '-2'; expected a whole number"),
        (["policy,1.5,1,0,1"], "line 2: seed '1.5'"),
        (["policy,1,1,0,nan"], "line 2: reward 'nan'; expected a finite number"),
        (["policy,1,1,0,1e999"], "line 2: reward '1e999'"),
        (["policy,1,1,0"], "line 2: reward None"),
        (["policy,1,yes,0,1"], "line 2: success 'yes'; expected true or false, 1 or 0"),
        (["policy,1,1,0,1", "policy,1,1,0,1"], "line 3: seed 1 is there twice for policy"),
        (["policy,1,1,0,1", "baseline,2,1,0,1"], "baseline drove other seeds than the policy"),
        (['policy,1,1,0,"1'], "not CSV in UTF-8"),
        (["policy,\x1b[2J,1,0,1"], "line 2: seed '\\x1b[2J'"),
    ],
)
def test_what_is_no_report_is_refused_with_its_line(tmp_path: Path, lines: list[str], complaint: str):
    with pytest.raises(DrivingError) as caught:
        read_reported(report(tmp_path, *lines))
    assert complaint in str(caught.value)


def test_a_report_without_its_columns_or_letters_is_refused(tmp_path: Path):
    with pytest.raises(DrivingError, match="has no column success, collision; expected driver, seed"):
        read_reported(report(tmp_path, head="driver,seed,reward"))
    (tmp_path / "latin").write_bytes(f"{HEAD}\npolicy,1,1,0,1,\xe9".encode("latin-1"))
    with pytest.raises(DrivingError, match="not CSV in UTF-8"):
        read_reported(tmp_path / "latin")


def test_the_gates_know_the_drivers_of_a_report():
    assert set(BASELINES) == set(episodes.BASELINES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_report_is_evidence_that_is_called_self_reported(mlflow_home: Path, example: Path):
    rows = [
        f"{driver},{seed},{int(driver == 'policy')},0,{-seed}" for driver in ("policy", "random") for seed in (3, 1)
    ]
    path = report(mlflow_home, *rows)
    told = ["--env", "town05", "--env-version", "CARLA 0.9.15", "--reward-margin", "2.5"]
    command = ["training_export", "log-evidence"]
    done = command_here(*command, str(example), str(path), *told)
    assert done.code == 0, done.err
    assert "self-reported" in done.out
    found = find_evidence(open_artifact(example).digest)
    assert found is not None
    assert (found.problem, found.self_reported, found.reward_margin, found.baseline) == (None, True, 2.5, "random")
    assert found.source == f"runs:/{found.run_id} (self-reported)"
    assert found.conditions["env_version"] == "CARLA 0.9.15"
    assert [(row.seed, row.failed) for row in found.drives["random"]] == [(1, True), (3, True)]
    done = command_here(*command, "nobody@0.1.0", str(path), *told)
    assert (done.code, "no policy named nobody" in done.err) == (1, True)
    done = command_here(*command, str(example), "nowhere.csv", *told)
    assert (done.code, done.err.strip()) == (1, "python -m training_export: nowhere.csv: No such file or directory")


@pytest.mark.filterwarnings("ignore")
def test_a_promotion_by_a_report_is_journalled_as_self_reported(mlflow_home: Path, example: Path):
    rows = [
        f"{d},{seed},{int(d == 'policy')},0,{9 * (d == 'policy')}" for d in ("policy", "random") for seed in range(60)
    ]
    store = Store()
    version, _ = register(store, str(example), cache_folder())
    told = ["--env", "town05", "--env-version", "CARLA 0.9.15"]
    assert main(["log-evidence", str(example), str(report(mlflow_home, *rows)), *told]) == 0
    reference = parse_reference(f"{version.name}@{version.semver}")
    moved = promote(store, reference, "production", cache_folder(), MoveOptions(), promotion_gates("production"))
    assert any("60 episodes in runs:/" in text and text.endswith("(self-reported)") for text in moved.findings)
    evidence, margins = sync(store, version.name).entries[-1].move.evidence
    assert margins.startswith("margins: ")
    assert evidence.startswith("runs:/")
    assert evidence.endswith(" (self-reported)")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--env", "CartPole-v1"], "--env needs --success-key, --collision-key or both"),
        (["--env", "CartPole-v1", "--success-key", "ok", "--traffic", "3"], "--traffic is for the racetrack"),
        (["--env", "CartPole-v1", "--success-key", "ok", "--duration", "3"], "--duration is for the racetrack"),
        (["--success-key", "ok"], "--success-key is for an environment of your own: --env ID"),
        (["--baseline", "a.py:b"], "--baseline is for an environment of your own: --env ID"),
        (["--env-config", "a.yaml"], "--env-config is for an environment of your own: --env ID"),
    ],
)
def test_flags_that_do_not_go_together_are_a_mistake_of_usage(example: Path, capsys, flags: list[str], complaint: str):
    assert main(["evaluate", str(example), *flags]) == 2
    assert complaint in capsys.readouterr().err
