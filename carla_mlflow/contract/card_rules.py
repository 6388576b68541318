"""The rules for a card, each with the message for a card that breaks it."""

from __future__ import annotations

import math
import re

import numpy as np
from msgspec import UNSET, UnsetType

from .action_card import ActionCard
from .answer_rules import answer_problems, raw_name_problems
from .backend_names import graph_of
from .card_sections import CardFields, Parity, newer_keys
from .control import scale_problems
from .control_kinds import CONTROL_HIGH, CONTROL_LOW, CONTROL_NAMES, CONTROLS, NAMED, RAW_NAMES
from .field_card import FieldCard
from .heads import CHOOSING, MEANS, PARAMETERS
from .history import MAX_REPEAT, check_histories
from .state_rules import state_problems
from .strict_yaml import CARD_NAME

FORMAT = 2
"""The newest format that is read. A card without any key that format 2 added is written as format 1."""


_SEMVER = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?$"
)
"""Semantic Versioning 2.0.0 (semver.org), without build metadata, by which versions can't be ordered."""


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


_ENDINGS = ".pt, .onnx, .npz, .skops, .txt, .md or .json"


_FILE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.(pt|onnx|npz|skops|txt|md|json)"


_SHA256 = r"^sha256:[0-9a-f]{64}$"


MAX_TOLERANCE, MAX_FIELDS = 1e-3, 64
MAX_FREE_RUNNING = 1e-2
"""The limit of `free_running`, in which the differences of 32 steps add up."""


def find_problems(card: CardFields) -> list[str]:
    """What is wrong with a card, in words."""
    problems = []
    if not re.fullmatch(_NAME, card.name):
        problems.append(f"name {card.name!r}: expected letters, digits, '.', '_' or '-', at most 128")
    if not re.fullmatch(_SEMVER, card.version):
        problems.append(f"version {card.version!r}: expected a semantic version such as 1.4.2")
    if card.format < 1:
        problems.append(f"format {card.format}: expected 1 or {FORMAT}")
    elif card.format == 1:
        problems += [f"{key}: format 1 has no such key or value; it needs format: {FORMAT}" for key in newer_keys(card)]
    if not card.preprocessing.in_graph and card.preprocessing.source is None:
        problems.append("preprocessing: outside the graph (in_graph: false) it needs a source")
    problems += observation_problems(card.observation, card.action.head)
    if not isinstance(card.state, UnsetType):
        problems += state_problems(card.state, card.observation, card.action)
    problems += check_action(card.action)
    for name, file in card.files.items():
        if not re.fullmatch(_FILE, name) or name == CARD_NAME:
            problems.append(f"files: {name!r} is not a plain file name beside the card, ending in {_ENDINGS}")
        if not re.fullmatch(_SHA256, file.sha256):
            problems.append(f"files: {name}: sha256 must be sha256: and 64 hex digits")
    graphs = [file.backend for file in card.files.values() if file.backend is not None]
    if len(set(graphs)) != len(graphs):
        problems.append("files: two graphs for one backend")
    if not re.fullmatch(_SHA256, card.weights):
        problems.append("weights: expected sha256: and 64 hex digits")
    if (graph := graph_of(card.backend)) not in {file.backend for file in card.files.values()}:
        problems.append(f"backend {card.backend}: no file of the backend {graph} is listed")
    for label, file_name in (("parity.file", card.parity.file), ("preprocessing.source", card.preprocessing.source)):
        if file_name is not None and file_name not in card.files:
            problems.append(f"{label}: {file_name} is not listed under files")
    problems += check_tolerance(card.parity)
    if (card.parity.free_running is UNSET) != (card.state is UNSET):
        problems.append("parity.free_running: expected with `state`, and nothing without")
    return problems


def observation_problems(section: dict[str, FieldCard], head: str) -> list[str]:
    """What is wrong with an observation section of a policy with an action head, in words."""
    problems = [] if section else ["observation: expected at least one field"]
    sources = [field.source if field.source else name for name, field in section.items()]
    problems += [
        f"observation: two fields have the source {source}" for source in set(sources) if sources.count(source) > 1
    ]
    if len(section) > MAX_FIELDS:
        problems.append(f"observation: {len(section)} fields; at most {MAX_FIELDS}, so join some into a vector")
    inside = {"features", "raw", *PARAMETERS.get(head, ())}
    problems += [
        f"observation.{name}: this name is used inside the graph; choose another one in the card, with "
        f"`source: {name}` beside it if the environment has this name"
        for name in section
        if name in inside
    ]
    return problems + check_histories(section)


def check_tolerance(parity: Parity) -> list[str]:
    """What is wrong with the tolerances, in words."""
    larger = "larger ones would let another policy pass"
    problems = []
    if not (0 <= parity.atol <= MAX_TOLERANCE and 0 <= parity.rtol <= MAX_TOLERANCE):
        problems.append(f"parity: atol and rtol must lie in [0, {MAX_TOLERANCE:g}]: {larger}")
    if not isinstance(parity.free_running, UnsetType) and not 0 <= parity.free_running <= MAX_FREE_RUNNING:
        problems.append(f"parity.free_running must lie in [0, {MAX_FREE_RUNNING:g}]: {larger}")
    return problems


def check_action(action: ActionCard) -> list[str]:
    """What is wrong with an action section, in words."""
    problems = []
    if action.head not in PARAMETERS:
        problems.append(f"action.head {action.head!r}: expected one of {', '.join(PARAMETERS)}")
    if action.control not in CONTROLS:
        problems.append(f"action.control {action.control!r}: expected one of {', '.join(CONTROLS)}")
    elif set(action.raw) != set(RAW_NAMES.get(action.control, action.raw)):
        problems.append(f"action.raw: {action.control} needs exactly {', '.join(RAW_NAMES[action.control])}")
    else:
        problems += scale_problems(action)
    problems += _check_head(action)
    for name, (low, high) in action.raw.items():
        with np.errstate(over="ignore"):
            low32, high32 = np.float32(low), np.float32(high)  # the policy's actions are compared with these
        if not (np.isfinite(low32) and np.isfinite(high32) and low32 < high32):
            problems.append(f"action.raw.{name}: expected finite bounds, low < high")
    for index, control in enumerate(action.table or ()):
        values = np.array([getattr(control, name) for name in CONTROL_NAMES])
        if not ((values >= CONTROL_LOW) & (values <= CONTROL_HIGH)).all():
            problems.append(f"action.table[{index}]: throttle and brake must lie in [0, 1], steer in [-1, 1]")
    if not problems:  # which values a fallback may have depends on all of that
        problems += answer_problems(action)
    if not 0 < action.rate_hz < math.inf:
        problems.append("action.rate_hz: expected more than 0")
    if not isinstance(action.repeat, UnsetType) and not 1 <= action.repeat <= MAX_REPEAT:
        problems.append(f"action.repeat: expected 1 to {MAX_REPEAT} ticks")
    return problems


def _check_head(action: ActionCard) -> list[str]:
    problems = []
    if action.deterministic == "mean" and action.head not in MEANS:
        problems.append(f"action.deterministic: `mean` is possible with {' and '.join(MEANS)} only")
    if (action.control == "table") != (action.table is not None):
        problems.append(
            "action.table: expected a list of controls with `control: table`, and nothing with any other control"
        )
    if action.head in CHOOSING:
        fitting = ("table", NAMED) if action.head == "categorical" else (NAMED,)
        if action.control not in fitting:
            problems.append(f"action.control: a {action.head} head needs control: {' or '.join(fitting)}")
    if action.control == NAMED:
        problems += raw_name_problems(action)
    if action.table is not None:
        if action.head not in {"categorical", "deterministic"}:
            problems.append(f"action.head {action.head}: a table needs a categorical or a deterministic head")
        if len(action.table) < 2 or action.raw.get("choice") != (0, len(action.table) - 1):
            problems.append("action.raw.choice: expected [0, K - 1] for a table of K controls, at least two")
    return problems
