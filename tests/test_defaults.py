"""A default is the same in the command, in MLproject and in the docs; so are the exit codes."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
import yaml
from every_command import parser_of
from tests_support import ROOT

from serve.flag_groups import GROUPS
from serve.settings import Settings
from training_export.export_flags import NAME, VERSION
from training_export.sources.draft import CardDraft
from training_export.training.checkpoint import TrainingConfig

PROGRAMS = {
    "train": "python -m training_export train",
    "export": "carla-export",
    "register": "carla-registry register",
    "promote": "carla-registry promote",
    "evaluate": "python -m training_export evaluate",
}
"""An entry point of MLproject → the command that it calls."""
NOT_OF_A_COMMAND = {("register", "name"), ("promote", "name"), ("promote", "version"), ("promote", "to")}
"""Parameters whose command insists on a value, or takes it from the card."""


def declared() -> dict[tuple[str, str], Any]:
    points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    return {(p, name): value["default"] for p, each in points.items() for name, value in each["parameters"].items()}


def default_of(program: str, flag: str) -> Any:
    [action] = [a for a in parser_of(program)._actions if f"--{flag.replace('_', '-')}" in a.option_strings]
    return action.default


def test_mlproject_and_the_commands_have_the_same_defaults():
    of_commands = {("export", "name"): NAME, ("export", "version"): VERSION}
    for (point, name), value in declared().items():
        if name != "run_id" and (point, name) not in NOT_OF_A_COMMAND:
            expected = of_commands.get((point, name)) or default_of(PROGRAMS[point], name)
            assert value == expected, (point, name)


def test_every_step_of_mlproject_means_the_same_policy():
    assert {value for (_, name), value in declared().items() if name == "name"} == {NAME}
    assert {value for (_, name), value in declared().items() if name == "version"} == {VERSION}
    assert (CardDraft().name, CardDraft().version) == (NAME, VERSION)


def test_training_has_the_defaults_of_its_command():
    config = TrainingConfig()
    for name in ("total_timesteps", "seed", "traffic"):
        assert default_of(PROGRAMS["train"], name) == getattr(config, name)


@pytest.mark.parametrize("page", ["record", "shadow"])
def test_a_page_tells_the_defaults_of_its_settings(page: str):
    settings = {f.name: f.default for f in fields(Settings)}
    rows = re.findall(
        r"^\| `--([a-z-]+)[^`]*` \| ([^|]+) \|", (ROOT / "docs" / "how-to" / f"{page}.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 4
    for flag, told in rows:
        default, text = settings[flag.replace("-", "_")], told.strip("` ")
        assert text == "off" if default in ("", False) else text == default or float(text) == default, flag


def test_the_help_tells_the_default_of_every_setting():
    for action in parser_of("carla-serve")._actions:
        default = getattr(Settings, action.dest, "")
        if default not in ("", False):
            assert str(action.help).endswith(f"(default {default})"), action.dest


def test_every_setting_with_a_flag_is_in_one_group_of_the_help():
    listed = [name for group in GROUPS.values() for name in group]
    assert sorted(listed) == sorted(f.name for f in fields(Settings) if "secret" not in f.metadata)
