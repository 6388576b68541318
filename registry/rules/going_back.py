"""Which versions a stage was given back to, and which were rolled back in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from registry.rules.journal import NOTES, Entry


def goes_back(entries: Iterable[Entry], stage: str, version: str) -> bool:
    """Whether the version that holds a stage now got it by a roll-back, or in MLflow's UI after it had held it before.

    Args:
        entries: the journal's chain; what was moved in the UI may not be in it yet.
        stage: staging or production.
        version: the semantic version that holds it.
    """
    every = [entry.link.move for entry in entries if entry.link]
    moves = [move for move in every if move.to == stage and move.kind not in NOTES]
    if moves and moves[-1].version == version:
        last = moves.pop()
        if last.kind in ("promote", "rollback"):
            return last.kind == "rollback"
    return any(move.version == version for move in moves)


def rolled_back(entries: Iterable[Entry], stage: str) -> set[str]:
    """The versions from which a roll-back took a stage, at any time.

    Args:
        entries: the journal's chain.
        stage: staging or production.
    """
    moves = (entry.link.move for entry in entries if entry.link)
    return {move.displaced for move in moves if (move.kind, move.to) == ("rollback", stage) and move.displaced}
