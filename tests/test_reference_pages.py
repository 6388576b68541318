"""The generated parts of the documentation have everything that the code has, and no other names for it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from tests_support import ROOT

from carla_mlflow.contract.card_sections import CardFields
from carla_mlflow.contract.json_schema import json_schema
from carla_mlflow.exit_codes import EXIT_CODES
from serve.errors import MEANING, STATUS
from training_export.sources.draft_schema import draft_schema

sys.path.append(str(ROOT / "scripts"))

from reference_pages import FILES, PARTS, commands, exit_codes
from reference_pages.markdown import code

DOCS = ROOT / "docs"


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for below, _ in commands.subcommands(parser).values():
        yield from parsers(below)


@pytest.mark.parametrize("program", commands.PROGRAMS, ids=lambda program: program.title)
def test_every_flag_of_every_command_has_a_row(program: commands.Program):
    text = commands.described(program)
    for parser in parsers(commands.parser_of(program)):
        flags = [flag for action in parser._actions for flag in action.option_strings if flag not in {"-h", "--help"}]
        assert [flag for flag in flags if f"<code>{flag}" not in text and f", {flag}" not in text] == []


def test_every_installed_command_has_a_page():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) <= {program.title for program in commands.PROGRAMS}


def test_every_setting_code_and_metric_has_a_row():
    for part, names in {
        "settings": ["--model", "POLICY_MAX_INFLIGHT", "--shadow-memory-mb"],
        "secrets": ["POLICY_API_KEY", "POLICY_STATE_KEY"],
        "ray-arguments": ["max_replicas"],
        "metrics": ["policy_requests_total", "policy_model_info", "policy_shadow_difference", "process_open_fds"],
    }.items():
        assert [name for name in names if code(name) not in PARTS[part]()] == [], part
    assert list(MEANING) == list(STATUS)
    assert {"POST /predict", "GET /metrics", "POST /hooks/mlflow"} <= set(
        re.findall(r"^## (\w+ /\S+)", PARTS["routes"](), re.M)
    )


def test_every_exit_code_is_explained():
    assert list(exit_codes.MEANING) == list(EXIT_CODES)


def test_every_generated_part_stands_on_a_page_and_every_page_asks_for_one_that_is_there():
    asked = [
        name
        for page in DOCS.rglob("*.md")
        for name in re.findall(r"^<!-- generated: (\S+) -->$", page.read_text(), re.M)
    ]
    assert sorted(asked) == sorted(PARTS)
    assert all((DOCS / path).parent.is_dir() for path in FILES)


def valid(document: Any, schema: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return bool(validator.is_valid(document))


def test_the_cards_schema_takes_the_examples_card_and_no_misspelt_key():
    schema = json_schema(CardFields, "card")
    card = yaml.safe_load((ROOT / "examples/v0.1.0/model_card.yaml").read_text())
    assert valid(card, schema)
    assert not valid({**card, "paritiy": {}}, schema)
    assert not valid({**card, "action": {**card["action"], "head": 3}}, schema)


@pytest.mark.parametrize("page", ["export", "export-sb3", "recipes", "actions"])
def test_the_schema_of_what_authors_write_takes_the_cards_of_the_guides(page: str):
    text = (DOCS / "how-to" / f"{page}.md").read_text()
    blocks = re.findall(r"^```yaml(?: title=\S+)?\n(.*?)^```$", text, re.M | re.S)
    cards = [block for block in blocks if not block.startswith("config:")]  # that is an environment's
    assert cards
    assert [card for card in cards if not valid(yaml.safe_load(card), draft_schema())] == []


def test_every_key_of_a_card_is_explained():
    for schema in (draft_schema(), json_schema(CardFields, "card")):
        for section in (schema, *schema["$defs"].values()):
            assert [key for key, one in section["properties"].items() if "description" not in one] == []


def test_export_prints_the_schema_without_a_source(capsys: pytest.CaptureFixture[str]):
    from training_export.export_command import main

    with pytest.raises(SystemExit) as ended:
        main(["--schema"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(draft_schema()))


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
