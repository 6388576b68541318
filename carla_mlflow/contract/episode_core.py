"""What an episode asks next, and what it keeps of the answers; how it asks is left to clients and engines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from numpy.typing import NDArray

from ..errors import EpisodeCode, ServerError, SpecError
from .actions import Actions
from .card_sections import CardFields
from .frames import History

log = logging.getLogger("carla_mlflow")

BEGINS_ANEW = get_args(EpisodeCode)
"""Error codes of a server that no longer has what answered this episode so far (status 409)."""
STATE_REFUSED = "state_refused"
"""Why an episode begins anew whose state no server takes: it was damaged, or is of a form that is not known."""
MAX_IN_VAIN = 3
"""How often an episode begins anew silently although it has not gone on by a step since it last did."""
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
        restarts: how often it began anew with a policy, by the error code, or as `state_refused`.
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
        self._goes_on = False  # whether the latest question was to go on with what was answered before
        self._in_vain = 0

    @property
    def actions(self) -> Actions | None:
        """The latest that were answered in time; they hold while `is_due` is False. None before the first answer."""
        return self._held

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
        self._goes_on = self._state is not None or (self.digest is not None and not self._has_memory)
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
        elif self._goes_on:
            self._in_vain = 0
        self.digest, self._state = answer.digest, answer.state
        self._held, self._ticks_left = answer.actions, self._repeat - 1
        return answer.actions

    def begin_anew(self, question: Question, error: ServerError) -> Question:
        """What to ask after a refusal: the same, as the beginning of an episode; the frames stay, as they were seen.

        Raises:
            ServerError: the given one, where beginning anew is no remedy: it was done MAX_IN_VAIN times without a step
                in between, as with servers of different keys behind one address. The next tick begins anew, though.
        """
        reason = _reason(question, error)
        if reason is None or (question.state is None and question.digest is None):
            raise error
        self._count(reason)
        self._state = self.digest = None
        self._goes_on = False
        self._in_vain += 1
        if self._in_vain > MAX_IN_VAIN:
            if self._in_vain == MAX_IN_VAIN + 1:
                log.warning("an episode begins anew again and again without a step in between: %s", error)
            raise error
        return Question(question.arrays)

    def _count(self, reason: str) -> None:
        if not self.restarts[reason]:
            log.warning("an episode begins anew, and further ones of its kind are counted only: %s", reason)
        self.restarts[reason] += 1


def _reason(question: Question, error: ServerError) -> str | None:
    """Why an episode begins anew after that error; None where that is no remedy."""
    if error.code in BEGINS_ANEW:
        return error.code
    # Without a memory, `state` is the name of an observation.
    names_state = error.code == "invalid_observation" and (error.field or "").endswith(".state")
    return STATE_REFUSED if names_state and question.state is not None else None


def check_without_episode(card: CardFields) -> None:
    """Raises SpecError for a policy with a memory, which only an episode keeps."""
    if card.states:
        raise SpecError("observations", f"this policy has a memory, which only an episode keeps; use {REMEDY}")


def with_remedy(card: CardFields, error: SpecError) -> SpecError:
    """Why observations given to `act` do not fit, with the remedy where the policy has a history."""
    if not any(field.history for field in card.observation.values()):
        return error
    return SpecError(
        error.field, f"{error.problem}; `act` takes whole histories; to give it single ticks, use {REMEDY}"
    )
