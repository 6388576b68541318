"""What an episode asks next, and what it keeps of the answers; how it asks is left to clients and engines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ..errors import ServerError, SpecError
from .actions import Actions
from .card_sections import CardFields
from .frames import History

log = logging.getLogger("carla_mlflow")

BEGINS_ANEW = ("state_of_another_key", "state_of_another_version", "episode_of_another_version")
"""Error codes of a server that no longer has what answered this episode so far (status 409)."""
REMEDY = "`episode = policy.start_episode()`, then `episode.act(observation)` at every tick"


@dataclass(frozen=True)
class Question:
    """What is asked at one tick.

    Attributes:
        arrays: a batch of one row, as the graph takes it.
        state: what the latest answer gave to send back: a token from a server, arrays from an engine; None where the
            episode begins, and for policies without memory.
        digest: of the version that has to answer; None where the episode begins, and for policies with memory, whose
            state says it.
    """

    arrays: Mapping[str, NDArray[Any]]
    state: Any = None
    digest: str | None = None


@dataclass(frozen=True)
class Answer:
    """The actions for one question, the state to send next, and the digest of the version that answered."""

    actions: Actions
    state: Any
    digest: str


class EpisodeCore:
    """One episode: its frames, its state, and the action that holds.

    What was lost changes nothing: after a late answer or an error, the next question sends the state of the last answer
    that came, even if the server went one step on. The frames are those that were seen, whatever became of the answers.

    Attributes:
        step: how many ticks the episode has seen.
        digest: of the version that answers; None before the first answer.
        restarts: how often it began anew with a policy, by the error code.
    """

    def __init__(self, card: CardFields) -> None:
        self.step = 0
        self.digest: str | None = None
        self.restarts: Counter[str] = Counter()
        self._has_memory = bool(card.states)
        self._history = History(card)
        self._repeat = card.action.repeat or 1
        self._state: Any = None
        self._held: Actions | None = None
        self._ticks_left = 0

    @property
    def is_due(self) -> bool:
        """Whether the next tick asks the policy, because no action holds."""
        return self._ticks_left == 0

    def tick(self, observation: Mapping[str, Any]) -> Question | Actions:
        """Takes one tick's observation; returns what to ask, or the action that still holds.

        Raises:
            SpecError: the observation does not fit.
        """
        self.step += 1
        held = self._held if self._ticks_left else None
        self._ticks_left = max(self._ticks_left - 1, 0)
        arrays = self._history.take(observation)
        if held is not None:
            return held
        return Question(arrays, self._state, None if self._has_memory else self.digest)

    def skip(self, observation: Mapping[str, Any] | None) -> None:
        """Lets a tick pass without acting; without an observation, the frames before count for it, too.

        Raises:
            SpecError: the observation does not fit.
        """
        self.step += 1
        self._ticks_left = max(self._ticks_left - 1, 0)
        if observation is None:
            self._history.hold()
        else:
            self._history.take(observation)

    def answered(self, answer: Answer) -> Actions:
        """Takes an answer; returns its actions. The card's fallback, for an answer that was late, changes nothing."""
        if answer.actions.fallback:
            return answer.actions
        if not self._has_memory and self.digest not in {None, answer.digest}:
            self._count("episode_of_another_version")  # a server that does not hold versions for episodes
        self.digest, self._state = answer.digest, answer.state
        self._held, self._ticks_left = answer.actions, self._repeat - 1
        return answer.actions

    def begin_anew(self, question: Question, error: ServerError) -> Question:
        """What to ask after a refusal: the same, as the beginning of an episode; the frames stay, as they were seen.

        Raises:
            ServerError: the given one, where beginning anew is no remedy.
        """
        if error.code not in BEGINS_ANEW or (question.state is None and question.digest is None):
            raise error
        self._count(error.code)
        self._state = self.digest = None
        return Question(question.arrays)

    def _count(self, reason: str) -> None:
        if not self.restarts[reason]:
            log.warning("an episode begins anew, and further ones of its kind are counted only: %s", reason)
        self.restarts[reason] += 1


def check_without_episode(card: CardFields, error: SpecError | None = None) -> None:
    """Refuses what only an episode can do.

    Args:
        card: of the policy.
        error: why the observations do not fit; None before they are looked at.

    Raises:
        SpecError: the policy has a memory; or the given error, with the remedy where the policy has a history.
    """
    if card.states:
        raise SpecError("observations", f"this policy remembers, which only an episode does: {REMEDY}")
    if error is None:
        return
    if any(field.history for field in card.observation.values()):
        raise SpecError(error.field, f"{error.problem}; single ticks, of which a history is made, go to {REMEDY}")
    raise error
