"""The checks of a policy's memory: the caller carries it, and the same steps give the same bits in any company."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract.memory import RESET
from .subject import Batch, Subject, bits_of_rows, expect, refusal_of


def an_episode_alone_gets_the_bits_that_it_gets_among_others(subject: Subject) -> None:
    if not subject.states:
        return
    episodes, steps = (4, 4) if subject.engine.specs.has_image else (12, 16)
    picked = np.arange(episodes * steps) % subject.count
    names = subject.engine.specs.names
    batches = [{name: subject.observations[name][rows] for name in names} for rows in np.split(picked, steps)]
    together = _bits_of_episode(subject, batches)
    for episode in range(episodes):
        own = [{name: array[episode : episode + 1] for name, array in batch.items()} for batch in batches]
        same = _bits_of_episode(subject, own) == [step[episode : episode + 1] for step in together]
        expect(same, f"episode {episode} of {episodes} gets other bits alone than beside the others")


def where_an_episode_begins_the_state_does_not_matter(subject: Subject) -> None:
    if not subject.states:
        return
    rows = list(range(min(9, subject.count)))
    begins = {**subject.take(rows), RESET: np.ones(len(rows), np.float32)}
    other = {name: np.flip(begins[name], axis=0) for name in subject.states}
    wanted = subject.bits(rows, begins)
    expect(subject.bits(rows, begins | other) == wanted, "another state gives other bits where an episode begins")
    observed = {name: begins[name] for name in subject.engine.specs.names}
    fresh = subject.engine.act(observed).raw
    expect(fresh.tobytes() == subject.act(begins).raw.tobytes(), "no state gives other bits than `reset`")


def a_state_that_does_not_fit_is_refused(subject: Subject) -> None:
    one = subject.take([0])
    observed = {name: one[name] for name in subject.engine.specs.names}
    if not subject.states:
        refusal = refusal_of(subject, observed, state={"h": np.zeros((1, 4), np.float32)})
        expect("no memory" in refusal.problem, f"a state for a policy without memory was refused as {refusal}")
        return
    for name in subject.states:
        endless = np.full_like(one[name], np.inf)
        for wrong, text in ((one[name][..., None], "expected float32"), (endless, "finite")):
            refusal = refusal_of(subject, {**one, name: wrong, RESET: np.zeros(1, np.float32)})
            expect(name in refusal.field and text in refusal.problem, f"a wrong {name} was refused as {refusal}")


def _bits_of_episode(subject: Subject, batches: list[Batch]) -> list[list[bytes]]:
    """For each step, all bits of the answer to each row; the states go from step to step."""
    state, found = None, []
    for batch in batches:
        actions = subject.engine.act(batch, state=state)
        state = actions.state
        found.append(bits_of_rows(actions))
    return found


MEMORY_CHECKS: tuple[Callable[[Subject], None], ...] = (
    an_episode_alone_gets_the_bits_that_it_gets_among_others,
    where_an_episode_begins_the_state_does_not_matter,
    a_state_that_does_not_fit_is_refused,
)
