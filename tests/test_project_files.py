"""What is written twice because tools need it twice says the same."""

from __future__ import annotations

import re
import runpy
import signal
import sys
from pathlib import Path

import pytest
import yaml

from carla_mlflow.contract.figures import with_new_names
from registry.gates.margins import MIN_EPISODES
from training_export.racetrack.conditions import Conditions

ROOT = Path(__file__).parent.parent


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_conda_installs_the_torch_that_constraints_pin():
    [pip] = [d["pip"] for d in yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"] if isinstance(d, dict)]
    assert pip[0] == f"torch=={pins()['torch']}"
    assert "--constraint constraints.txt" in pip


def test_the_readmes_figures_are_the_example_cards():
    card = yaml.safe_load((ROOT / "examples" / "v0.1.0" / "model_card.yaml").read_text())
    figures, text = with_new_names(card["metrics"]["closed_loop"]), (ROOT / "README.md").read_text()
    whole = round(figures["success_rate"] * figures["episodes"])
    assert f"{whole} of {figures['episodes']} seeds that training never saw" in text
    assert f"at {figures['speed_mps_mean']:.1f} m/s" in text


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_says_what_it_measures(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if "__main__" not in path.read_text():
        return
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    before = signal.getsignal(signal.SIGTERM)  # which a benchmark sets
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.value.code, capsys.readouterr().out.startswith("usage: python -m benchmarks.")) == (0, True)


def test_mlprojects_commands_use_every_parameter_that_they_declare():
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    assert set(project["entry_points"]) == {"train", "export", "register", "promote", "evaluate"}
    for point in project["entry_points"].values():
        assert set(re.findall(r"{(\w+)}", point["command"])) == set(point["parameters"])


def test_every_default_number_of_episodes_is_what_the_gates_ask_for():
    project = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert Conditions.episodes == MIN_EPISODES
    assert project["evaluate"]["parameters"]["episodes"]["default"] == MIN_EPISODES
    assert project["export"]["parameters"]["episodes"]["default"] == MIN_EPISODES
    assert f"# evidence: {MIN_EPISODES} unseen seeds" in (ROOT / "README.md").read_text()
    assert f"with {MIN_EPISODES} episodes or more" in (ROOT / "docs" / "adr" / "0009-gates.md").read_text()
    [evidence] = [line for line in (ROOT / "scripts" / "demo").read_text().splitlines() if " evaluate " in line]
    assert "--episodes" not in evidence


def test_the_readme_names_only_files_that_are_there():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / name).exists(), name
    for name in ("examples/v0.1.0", "MLproject", "CONTRIBUTING.md", "docs/adr"):
        assert name in text
        assert (ROOT / name).exists()


def test_the_guides_workflow_does_what_ci_does_and_nothing_else():
    page = (ROOT / "docs" / "how-to" / "github-workflow.md").read_text()
    ours, _ = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S))
    [job] = ours["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert (ROOT / ".ci" / "run").exists()
