"""The shadow's policy: found, fetched, verified and replaced as a worker's is, but all of it in the shadow's process.

Its folder, its cache and its locks are its own, so that nothing that it does there can keep a worker waiting, or make
one take a version for a bad one.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from carla_mlflow.contract.card import Card, parse_card
from carla_mlflow.contract.strict_yaml import CARD_NAME
from carla_mlflow.errors import ArtifactError
from registry.rules.changes import contract_changes
from registry.rules.reference import shown
from serve.following.follower import Follower
from serve.following.last_served import agree, cache_folder, read_good
from serve.following.startup import fill_from_folder
from serve.following.worker_side import Following
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import FOLLOW_FILE, Refused, Status, list_refused
from serve.settings import Settings
from serve.telemetry.shadow_report import SHADOW

WAITS = "waits for the version that is served here"
MAX_CHANGES = 3
"""Most differences of two contracts that are named."""

log = logging.getLogger("serve.shadow")


def own_settings(settings: Settings) -> Settings:
    """The server's settings with the shadow in the place of what is served: one process, on the CPU, nothing held."""
    return dataclasses.replace(
        settings,
        model=settings.shadow,
        also="",
        canary=False,
        digest="",
        device="cpu",
        workers=1,
        result_cache=0,
        episode_hold_s=0.0,
        cache_dir=str(cache_folder(settings) / SHADOW),
        record="",
        shadow="",
        shadow_log=False,
    )


def served_card(settings: Settings, run_folder: Path) -> Card | None:
    """The card of what the server serves by default; None before any worker has it, or where it can't be read."""
    good = None if settings.is_folder else read_good(run_folder, 0)
    path = settings.model if settings.is_folder else good.status.path if good else None
    if not path:
        return None
    try:
        return parse_card((Path(path) / CARD_NAME).read_bytes())
    except (OSError, ArtifactError):
        return None


class ShadowPolicy:
    """Keeps the shadow's policy up to date, in threads of its own.

    Attributes:
        champion: card of what the server serves by default; None while that is not known.
    """

    def __init__(self, settings: Settings, run_folder: Path, server: int) -> None:
        """`settings` and `run_folder` are the server's, `server` is its process id."""
        self._settings, self._run_folder, self._server = settings, run_folder, server
        self._own, self._folder = own_settings(settings), run_folder / SHADOW
        self._slot = Slot(self._folder, self._own.references, 1)
        self.champion: Card | None = None
        self._failed = False
        for left in self._folder.glob("worker-*.json"):  # of a process before this one
            left.unlink(missing_ok=True)

    def look(self) -> None:
        """Begins to look for the policy once it is known which contract it has to have; to be called regularly."""
        if self.champion is None:
            self.champion = served_card(self._settings, self._run_folder)
            if self.champion is not None:
                self._begin(self.champion)

    @property
    def serving(self) -> Serving | None:
        """The policy; None while there is none whose actions can be compared."""
        serving = self._slot.serving
        return None if serving is None or self._unlike(serving) else serving

    @property
    def reason(self) -> str | None:
        """Why there is none, in words; None when there is one."""
        if self.champion is None:
            return WAITS
        serving = self._slot.serving
        return self._slot.reason if serving is None else self._unlike(serving)

    @property
    def refused(self) -> tuple[Refused, ...]:
        """The versions that were refused lately."""
        return tuple(list_refused(self._folder))

    @property
    def has_failed(self) -> bool:
        """Whether a thread has ended that should not have: another process has to go on."""
        return self._failed

    def _begin(self, champion: Card) -> None:
        if self._own.is_folder:
            self._start(lambda: fill_from_folder(self._slot, self._own, self._folder))
            return
        if read_good(self._folder, 0) is None:  # else what an earlier process had
            agree(self._folder, 0, Status(), champion.contract)
        status_file = self._folder / FOLLOW_FILE
        self._slot.reason = f"looking for {shown(self._own.model)}"
        self._start(_ShadowFollowing(self._slot, self._own, status_file, champion).run)
        self._start(lambda: self._follow(status_file))

    def _start(self, run: Callable[[], None]) -> None:
        threading.Thread(target=self._run, args=(run,), daemon=True).start()

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception:  # the thread's boundary: the process ends, and another one begins anew
            log.exception("the shadow's policy could not be looked after")
            self._failed = True

    def _follow(self, status_file: Path) -> None:
        """Polls the registry until the server ends. A reference that nobody knows is looked for, too: it may come."""
        hints, _keeps_it_open = os.pipe()
        follower = Follower(self._own, status_file)
        while os.getppid() == self._server:
            began = time.monotonic()
            follower.poll()
            if follower.is_worn_out:
                self._failed = True
                return
            follower.wait(began, hints, self._server)

    def _unlike(self, serving: Serving) -> str | None:
        """Why its actions can't be compared, in words; None where they can."""
        assert self.champion is not None
        same = serving.card.contract == self.champion.contract
        return None if same else f"{serving.version} {other_contract(self.champion, serving.card)}"


class _ShadowFollowing(Following):
    """A worker's part in following, which refuses in words that fit a shadow."""

    def __init__(self, slot: Slot, settings: Settings, status_file: Path, champion: Card) -> None:
        super().__init__(slot, settings, status_file)
        self._champion = champion

    def _of_other_contract(self, serving: Serving) -> str:
        return other_contract(self._champion, serving.card)


def other_contract(champion: Card, card: Card) -> str:
    """How a contract differs from the one that is served, in words."""
    changes = [str(change) for change in contract_changes(champion, card)]
    more = f" and {len(changes) - MAX_CHANGES} more" if len(changes) > MAX_CHANGES else ""
    return f"has another contract than what is served ({'; '.join(changes[:MAX_CHANGES])}{more})"
