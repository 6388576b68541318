"""docs/how-to/recipes.md as it stands: each policy is trained and saved by its library, exported, compared to it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from patience import PATIENCE_S
from tests_support import ROOT, Finished, command_here, run_command

from carla_mlflow import Engine, open_artifact

MAX_LINES = 20
TRAINERS = {
    "rsl_rl and Isaac Lab: the exported files": "rsl_rl",
    "rsl_rl and Isaac Lab: the checkpoint": "rsl_rl",
    "rsl_rl and Isaac Lab: a policy with a memory": "rsl_rl_lstm",
    "CleanRL: continuous actions": "cleanrl_continuous",
    "CleanRL: discrete actions": "cleanrl_discrete",
    "RLlib": "rllib",
    "TorchRL": "torchrl",
}
"""Section of the page → the function of recipe_trainers.py that leaves its files."""
BACKENDS = {"rsl_rl and Isaac Lab: the exported files": [{"onnx"}, {"torchscript"}]}
"""The backends of each export, where it is not both."""


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", (ROOT / "docs/how-to/recipes.md").read_text(), flags=re.M)
    return {part.partition("\n")[0]: part for part in parts}


def blocks(section: str) -> dict[str, str]:
    """Language and title (`yaml`, or `python NAME`) → the code."""
    found = re.findall(r"^```(\w+)(?: title=\"(.*?)\")?\n(.*?)^```$", section, flags=re.M | re.S)
    return {f"{language} {title}".strip(): code for language, title, code in found}


def train(name: str) -> None:
    """In a process of its own: the libraries change torch's settings, and Ray its warnings."""
    command = [sys.executable, str(ROOT / "tests/recipe_trainers.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-3000:]


def write_blocks(section: str) -> None:
    for name, code in blocks(section).items():
        language, _, file = name.partition(" ")
        if language == "python" and file.endswith(".py"):
            Path(file).write_text(code)
        elif name == "yaml":
            Path("card.yaml").write_text(code)


def export(*arguments: str) -> Finished:
    """A file, of which only torch or ONNX Runtime is needed, in this process; a policy.py imports its library."""
    apart = any(".py:" in argument for argument in arguments)
    done = run_command("carla-export", *arguments) if apart else command_here("carla-export", *arguments)
    print(done.out, done.err)
    return done


def difference(folder: str) -> float:
    """How far an artifact's raw actions are from the library's own, clipped to the card's bounds."""
    engine, expected = Engine(open_artifact(folder)), np.load("expected.npz")
    low, high = engine.card.action.bounds
    wanted = np.clip(expected["action"], low, high)
    assert wanted.shape[:-1] in {(1000,), (125, 8)}
    assert (wanted != wanted[0]).any(axis=0).all(), "a policy that always acts the same shows nothing"
    if "reset" not in expected:
        return float(np.abs(engine.act(named(engine, expected["observation"])).raw - wanted).max())
    largest, state = 0.0, None
    for observed, begins, want in zip(expected["observation"], expected["reset"], wanted, strict=True):
        actions = engine.act(named(engine, observed), state=state, reset=begins)
        largest, state = max(largest, float(np.abs(actions.raw - want).max())), actions.state
    return largest


def named(engine: Engine, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of one vector as the card's observations, in its order."""
    sizes = np.cumsum([int(np.prod(spec.shape, dtype=int)) for spec in engine.specs])[:-1]
    parts = zip(engine.specs, np.split(rows, sizes, axis=1), strict=True)
    return {spec.name: part.reshape(len(rows), *spec.shape) for spec, part in parts}


@pytest.mark.slow
@pytest.mark.parametrize("title", TRAINERS)
def test_a_recipe_exports_a_policy_that_acts_as_its_library_does(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    train(TRAINERS[title])
    section = sections()[title]
    write_blocks(section)
    commands = re.findall(r"^    (carla-export .*)$", section, flags=re.M)
    assert commands
    for index, command in enumerate(commands):
        _, *arguments = shlex.split(command)
        done = export(*arguments)
        assert done.code == 0, done.err
        folder = arguments[arguments.index("--output") + 1]
        assert difference(folder) < 2e-6
        assert set(open_artifact(folder).backends) == BACKENDS.get(title, [{"onnx", "torchscript"}] * 2)[index]


def test_the_page_has_no_recipe_that_is_not_run_and_none_longer_than_it_says():
    assert list(sections()) == list(TRAINERS)
    built = {name: code for section in sections().values() for name, code in blocks(section).items() if ".py" in name}
    assert len(built) == len(TRAINERS) - 1
    for name, code in built.items():
        lines = [line for line in code.splitlines() if line.strip()]
        build = lines[lines.index("def build():") :]
        assert len(build) <= MAX_LINES, name
        assert max(map(len, lines)) <= 120, name


@pytest.mark.slow
def test_a_card_may_name_the_parts_of_the_vector_that_isaac_labs_files_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    train("isaac_lab")
    section = sections()["rsl_rl and Isaac Lab: the exported files"]
    write_blocks(section)
    for card, text in (("card.yaml", ""), ("named.yaml", blocks(section)["yaml observation"])):
        Path(card).write_text(blocks(section)["yaml"] + text)
        for file in ("policy.onnx", "policy.pt"):
            folder = f"{Path(card).stem}-{Path(file).suffix[1:]}"
            assert export(file, "--card", card, "--output", folder).code == 0
            assert difference(folder) < 2e-6
    named = yaml.safe_load(Path("named-onnx/model_card.yaml").read_text())["observation"]
    unnamed = yaml.safe_load(Path("card-pt/model_card.yaml").read_text())["observation"]
    assert [field["shape"] for field in named.values()] == [[], [5]]
    assert unnamed["obs"]["seen"]["high"][0] == pytest.approx(named["speed"]["seen"]["high"], rel=0.02)
    refused = export("recurrent.pt", "--card", "card.yaml", "--dry-run")
    assert refused.code == 1
    assert "recurrent.pt: keeps a memory inside itself (hidden_state, cell_state)" in refused.err
