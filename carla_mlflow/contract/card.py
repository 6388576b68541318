"""model_card.yaml: the contract of a policy artifact, and the only schema in the project."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from ..errors import CardError
from ..escaping import one_line
from .card_rules import FORMAT, find_problems
from .card_sections import CardFields, canonical_hash, newer_keys
from .history import frame_spec
from .memory import Memory, graph_inputs, graph_outputs
from .specs import ObservationSpec
from .strict_yaml import CARD_NAME, MAX_BYTES, read_section, read_yaml


class Card(CardFields, frozen=True):
    """A policy's card: what it observes and does, from which files, and how it was trained."""

    @classmethod
    def load(cls, path: str | Path) -> Card:
        """Reads and checks only the card; `open_artifact` also verifies the files that it lists.

        Args:
            path: an artifact's folder, or its model_card.yaml.

        Raises:
            CardError: the card is missing or invalid; says what is wrong, and where.
        """
        path = Path(path)
        file = path / CARD_NAME if path.is_dir() else path
        try:
            with file.open("rb") as opened:
                return parse_card(opened.read(MAX_BYTES + 1))
        except OSError as error:
            raise CardError(one_line(error)) from error

    @property
    def memory(self) -> Memory | None:
        """The states of a policy with a memory, for batches; None for a policy without."""
        return Memory(self.states) if self.states else None

    @property
    def graph_inputs(self) -> ObservationSpec:
        """What the graph takes, in order: observations and, with a memory, `reset` and the states."""
        return graph_inputs(self.observation_spec, self.states)

    @property
    def graph_outputs(self) -> dict[str, tuple[int, ...]]:
        """What the graph returns, in order: name → shape without the batch axis."""
        return graph_outputs(self.action, self.states)


def content_hash(card: Card) -> str:
    """The hash of the card without version, description, metrics and training: equal when the policy is the same."""
    return _hash_without(card, "version", "description", "metrics", "training", "content")


def identity_of(card: Card) -> str:
    """The hash of the card without its version: equal for the same artifact under any version."""
    return _hash_without(card, "version", "content")


def _hash_without(card: Card, *keys: str) -> str:
    document = card.to_dict()
    for key in keys:
        del document[key]
    ordered = [
        document["observation"],
        document["action"]["raw"],
        *([document["state"]] if "state" in document else []),
    ]
    for section in ordered:
        document.setdefault("order", []).append(list(section))
    return "sha256:" + canonical_hash(document)


def dump_card(card: Card) -> bytes:
    """The card as the bytes of model_card.yaml, with `format` and `content` filled in.

    Raises:
        CardError: the card contradicts itself; a card that can't be read back is not written.
    """
    card = msgspec.convert(card.to_dict(), Card)  # as a reader will see it: 0 in a float field becomes 0.0
    card = msgspec.structs.replace(card, format=FORMAT if any(newer_keys(card)) else 1)
    card = msgspec.structs.replace(card, content=content_hash(card))
    text = yaml.safe_dump(card.to_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
    parse_card(text.encode())
    return text.encode()


def parse_card(data: bytes) -> Card:
    """Reads and checks model_card.yaml.

    Raises:
        CardError: the card is invalid; says what is wrong, and where.
    """
    document = read_yaml(data)
    number = document.get("format") if isinstance(document, dict) else None
    if isinstance(number, int) and number > FORMAT:  # checked first, since a newer format may have other fields
        raise CardError(f"{CARD_NAME}: format {number} is newer than this reader's {FORMAT}; update carla-mlflow")
    card = read_section(document, Card)
    problems = find_problems(card)
    if problems:
        raise CardError(f"{CARD_NAME}: " + "; ".join(problems))
    try:
        frame_spec(card.observation)
    except CardError as error:
        raise CardError(f"{CARD_NAME}: {error}") from error
    if card.content != content_hash(card):
        raise CardError(f"{CARD_NAME}: the hash in `content` does not match the card, which was edited after export")
    return card
