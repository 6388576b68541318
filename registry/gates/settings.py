"""The settings of all gates: tags of the registered model, what each may be, and what counts without it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carla_mlflow.errors import RefusedError
from registry.gates.margins import DRIVING_TAG, MAX_MARGIN, RATE_MARGIN, REWARD_MARGIN, REWARD_TAG
from registry.gates.shadow import DEFAULT_ROWS, DISAGREEMENT_TAG, MAX_ROWS, ROWS_TAG

PREFIX = "gate."


@dataclass(frozen=True)
class Setting:
    """One setting of a gate.

    Attributes:
        tag: of the registered model.
        default: what counts without the tag, in words.
        meaning: what it sets.
        low: it must lie above this; at or above it where `from_low`.
        high: it may lie at this.
        from_low: whether it may lie at `low`.
        is_whole: whether it is a whole number.
    """

    tag: str
    default: str
    meaning: str
    low: float
    high: float
    from_low: bool = False
    is_whole: bool = False

    def problem(self, text: str) -> str | None:
        """What is wrong with a value, in words; None when nothing is."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        is_number = math.isfinite(value) and (not self.is_whole or (text.isascii() and text.isdigit()))
        if is_number and self.low <= value <= self.high and (self.from_low or value > self.low):
            return None
        kind = "a whole number" if self.is_whole else "a share"
        above = "from" if self.from_low else "above"
        most = f"{'to' if self.from_low else 'and at most'} {self.high:,.15g}"
        return f"{self.tag}={text!a}: expected {kind} {above} {self.low:g} {most}"


SETTINGS = (
    Setting(DRIVING_TAG, f"{RATE_MARGIN:g}", "how many more of its episodes may fail, as a share", 0, MAX_MARGIN),
    Setting(REWARD_TAG, f"{REWARD_MARGIN:g}", "how much less reward it may earn, as a share", 0, MAX_MARGIN),
    Setting(
        ROWS_TAG,
        f"{DEFAULT_ROWS:,} if {DISAGREEMENT_TAG.rpartition('.')[2]} is set, else no gate",
        "fewest rows compared in the shadow of the champion",
        0,
        MAX_ROWS,
        is_whole=True,
    ),
    Setting(
        DISAGREEMENT_TAG,
        f"any, if {ROWS_TAG.rpartition('.')[2]} is set, else no gate",
        "share of those rows that may disagree",
        0,
        1,
        from_low=True,
    ),
)


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """TAG=VALUE → tag and value; an empty value gives the default back.

    Raises:
        RefusedError: names every text that is no setting, and what is expected.
    """
    known, found = {setting.tag: setting for setting in SETTINGS}, dict[str, str]()
    problems: list[str] = []
    for text in texts:
        tag, equals, value = (part.strip() for part in text.partition("="))
        if tag not in known:
            problems.append(f"{tag!a} is no setting of a gate; there are {', '.join(known)}")
        elif not equals:
            problems.append(f"{text!a}: expected {tag}=VALUE, or {tag}= for the default")
        elif value and (problem := known[tag].problem(value)):
            problems.append(problem)
        elif found.setdefault(tag, value) != value:
            problems.append(f"{tag} is set twice")
    if problems:
        raise RefusedError("nothing was set", tuple(problems))
    return found


@dataclass(frozen=True)
class Shown:
    """A setting as it is now.

    Attributes:
        setting: the setting.
        value: of the tag; None where the default counts.
        journalled: what the journal says; None for the default.
        problem: why the tag's value can't be read.
    """

    setting: Setting
    value: str | None
    journalled: str | None
    problem: str | None

    @property
    def source(self) -> str:
        """Where the value comes from, in words."""
        if self.problem:
            return f"unusable: {self.problem}"
        if (self.value or "") != (self.journalled or ""):
            return "changed in MLflow, not by this command"
        return "default" if self.value is None else "set"


def shown(tags: Mapping[str, str], journalled: Mapping[str, str]) -> list[Shown]:
    """All settings as they are now.

    Args:
        tags: of the registered model.
        journalled: tag → the value that the journal gave it last; empty for the default.
    """
    return [
        Shown(
            each,
            tags.get(each.tag),
            journalled.get(each.tag),
            each.problem(tags[each.tag]) if each.tag in tags else None,
        )
        for each in SETTINGS
    ]
