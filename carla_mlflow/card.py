"""model_card.yaml: the contract of a policy artifact, and the only schema in the project."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import msgspec
import numpy as np
import yaml

from .card_sections import ActionCard, Card, canonical_hash, observation_spec
from .control import RAW_NAMES
from .errors import CardError
from .heads import PARAMETERS

FORMAT = 1
CARD_NAME = "model_card.yaml"

_SEMVER = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?$"
)
"""Semantic Versioning 2.0.0 (semver.org), without build metadata, which has no place in an order."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_SHA256 = r"^sha256:[0-9a-f]{64}$"

S = TypeVar("S")


def content_hash(card: Card) -> str:
    """The hash of the card without version, description, metrics and training: equal when the policy is the same."""
    content = msgspec.to_builtins(card)
    for key in ("version", "description", "metrics", "training", "content"):
        del content[key]
    for section in (content["observation"], content["action"]["raw"]):
        content.setdefault("order", []).append(list(section))
    return "sha256:" + canonical_hash(content)


def dump_card(card: Card) -> bytes:
    """The card as the bytes of model_card.yaml, with `content` filled in.

    Raises:
        CardError: the card contradicts itself; what can't be read is not written.
    """
    card = msgspec.structs.replace(card, content=content_hash(card))
    text = yaml.safe_dump(
        msgspec.to_builtins(card), sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )
    parse_card(text.encode())
    return text.encode()


def parse_card(data: bytes) -> Card:
    """Reads and checks model_card.yaml.

    Raises:
        CardError: what is wrong, where.
    """
    document = read_yaml(data)
    number = document.get("format") if isinstance(document, dict) else None
    if isinstance(number, int) and number > FORMAT:  # before anything else: its fields may be others
        raise CardError(f"{CARD_NAME}: format {number} is newer than this reader's {FORMAT}; update carla-mlflow")
    card = read_section(document, Card)
    problems = _problems(card)
    if problems:
        raise CardError(f"{CARD_NAME}: " + "; ".join(problems))
    try:
        observation_spec(card.observation)
    except CardError as error:
        raise CardError(f"{CARD_NAME}: {error}") from error
    if card.content != content_hash(card):
        raise CardError(f"{CARD_NAME}: `content` does not fit the rest of the card, which was changed after export")
    return card


def read_yaml(data: bytes) -> Any:
    """YAML bytes → plain values; CardError when they are none."""
    try:
        # CSafeLoader where libyaml is there: the card is read at every start of a server.
        return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise CardError(f"{CARD_NAME}: not YAML: {str(error).splitlines()[0]}") from error


def read_section(document: Any, section: type[S]) -> S:
    """Plain values → a card or a part of one; CardError names the place of what does not fit."""
    try:
        return msgspec.convert(document, section)
    except (msgspec.ValidationError, TypeError) as error:
        raise CardError(f"{CARD_NAME}: {error}") from error


def _problems(card: Card) -> list[str]:
    found = []
    if not re.fullmatch(_NAME, card.name):
        found.append(f"name {card.name!r}: expected letters, digits, '.', '_' or '-', at most 128")
    if not re.fullmatch(_SEMVER, card.version):
        found.append(f"version {card.version!r}: expected a semantic version such as 1.4.2")
    if card.format < 1:
        found.append(f"format {card.format}: expected 1")
    if not card.preprocessing.in_graph:
        found.append("preprocessing.in_graph: preprocessing outside the graph is not supported by this version")
    if not card.observation:
        found.append("observation: expected at least one field")
    found += check_action(card.action)
    for name, file in card.files.items():
        if "/" in name or "\\" in name or name in {"", ".", "..", CARD_NAME} or name.startswith("."):
            found.append(f"files: {name!r} is not a plain file name beside the card")
        if not re.fullmatch(_SHA256, file.sha256):
            found.append(f"files: {name}: sha256 must be sha256: and 64 hex digits")
    if card.backend not in {file.backend for file in card.files.values()}:
        found.append(f"backend {card.backend}: no file of that backend is listed")
    for label, file_name in (("parity.file", card.parity.file), ("preprocessing.source", card.preprocessing.source)):
        if file_name is not None and file_name not in card.files:
            found.append(f"{label}: {file_name} is not listed under files")
    if not (0 <= card.parity.atol < 1 and 0 <= card.parity.rtol < 1):
        found.append("parity: atol and rtol must lie in [0, 1)")
    return found


def check_action(action: ActionCard) -> list[str]:
    """What contradicts itself in an action section, in words."""
    found = []
    if action.head not in PARAMETERS:
        found.append(f"action.head {action.head!r}: expected one of {', '.join(PARAMETERS)}")
    if action.control not in RAW_NAMES:
        found.append(f"action.control {action.control!r}: expected one of {', '.join(RAW_NAMES)}")
    elif set(action.raw) != set(RAW_NAMES[action.control]):
        found.append(f"action.raw: {action.control} needs exactly {', '.join(RAW_NAMES[action.control])}")
    for name, (low, high) in action.raw.items():
        with np.errstate(over="ignore"):
            low32, high32 = np.float32(low), np.float32(high)  # what the policy's actions are held against
        if not (np.isfinite(low32) and np.isfinite(high32) and low32 < high32):
            found.append(f"action.raw.{name}: expected finite bounds, low < high")
    fallback = action.fallback
    if not (0 <= fallback.throttle <= 1 and 0 <= fallback.brake <= 1 and -1 <= fallback.steer <= 1):
        found.append("action.fallback: throttle and brake must lie in [0, 1], steer in [-1, 1]")
    if not 0 < action.rate_hz < math.inf:
        found.append("action.rate_hz: expected more than 0")
    return found
