"""The canary: a version that answers a share of the episodes, beside the one in production. Pure.

An episode belongs to it or does not by its id alone, so that every worker, replica and restart says the same, and an
episode of a small share belongs to every larger one, too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from carla_mlflow.errors import RefusedError
from registry.rules.lifecycle import CANARY
from registry.rules.policy_version import PolicyVersion

CANARY_SHARE = "canary_share"
"""The registered model's tag that holds the share, in percent."""
EXPECTED = "expected a percentage from 0 to 100 with at most two decimals, such as 5 or 0.25"
_SHARE = re.compile(r"\d{1,3}(\.\d{1,2})?", re.ASCII)


@dataclass(frozen=True)
class Canary:
    """The canary of a policy, as the registry has it.

    Attributes:
        version: that holds the alias; None where that has no semantic version and digest.
        share: percent of the episodes; None where none is set, or what is set is no share.
        is_vetted: whether the journal has its promotion to canary, and so its gates.
    """

    version: PolicyVersion | None
    share: float | None
    is_vetted: bool


def belongs(episode_id: str, digest: str, share: float) -> bool:
    """Whether an episode belongs to the canary.

    Args:
        episode_id: of the episode.
        digest: of the canary, so that another canary gets other episodes.
        share: percent of the episodes.
    """
    drawn = hashlib.sha256(f"{episode_id}\n{digest}".encode()).digest()[:8]
    return int.from_bytes(drawn, "big") / 2**64 < share / 100


def parse_share(text: str | None) -> float | None:
    """Percent from a text such as 5 or 0.25; None for what is no share."""
    if text is None or not _SHARE.fullmatch(text) or float(text) > 100:
        return None
    return float(text)


def share_text(share: float) -> str:
    """A share as the tag holds it."""
    return f"{share:.2f}".rstrip("0").rstrip(".")


def say_shares(aliases: Iterable[str], share: float | None) -> list[str]:
    """Aliases as people read them: canary with its share."""
    said = "no share" if share is None else f"{share_text(share)} %"
    return [f"{alias} ({said})" if alias == CANARY else alias for alias in aliases]


def check_share(share: float | None) -> None:
    """Raises RefusedError where a canary is to begin without a share."""
    if share is None:
        raise RefusedError("--to canary needs --share PERCENT: for how many of the episodes, such as --share 5")


def check_canary(version: str, champion: str | None, share: float | None) -> None:
    """Raises RefusedError unless a version may become the canary beside the champion, with that share."""
    check_share(share)
    if champion is None:
        raise RefusedError("no version is in production, and a canary only answers beside one: promote to production")
    if version == champion:
        raise RefusedError(f"{version} is in production: it answers all episodes already")
