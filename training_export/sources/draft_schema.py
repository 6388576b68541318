"""The JSON schema of the file that `carla-export --card` takes, for editors; `carla-export --schema` prints it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carla_mlflow.contract.json_schema import Sections


def draft_schema() -> dict[str, Any]:
    """The schema, with what each key means."""
    from carla_mlflow.contract.json_schema import json_schema
    from training_export.sources.draft import CardDraft

    return json_schema(CardDraft, "A policy's card, as carla-export takes it", alike())


def alike() -> Sections:
    """Which section of a finished card says what a draft's keys mean."""
    from carla_mlflow.contract.action_card import ActionCard
    from carla_mlflow.contract.card_sections import CardFields, Parity
    from training_export.sources.draft import ActionDraft, CardDraft, Tolerance

    return {CardDraft: CardFields, ActionDraft: ActionCard, Tolerance: Parity}


class PrintSchema(argparse.Action):
    """A flag that prints the schema and ends, and needs no other argument, as --help."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_of_option: object) -> None:
        print(json.dumps(draft_schema(), indent=2, ensure_ascii=False))
        parser.exit()
