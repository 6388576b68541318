"""golden.npz of a policy with a memory: what it has to hold, and what is refused."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from remembering_export import exported_lstm, with_golden

from carla_mlflow import Engine, ParityError
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.artifact.golden import Golden, read_golden
from carla_mlflow.errors import ArtifactError

Arrays = dict[str, NDArray[np.float32]]


def arrays() -> Arrays:
    with np.load(io.BytesIO(exported_lstm().artifact.files["golden.npz"])) as archive:
        return {key: archive[key] for key in archive.files}


def read(changed: Arrays) -> Golden:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **changed)
    return read_golden(buffer.getvalue(), exported_lstm().artifact.card)


def test_it_holds_whole_rollouts_that_begin_with_reset():
    held = arrays()
    assert {array.shape[:2] for array in held.values()} == {(4, 32)}
    assert {"reset", "state.h", "state.c", "next.h", "next.c", "observation.speed", "raw"} <= set(held)
    assert (held["reset"][:, 0] == 1).all()
    assert (held["reset"][:, 1:].sum(axis=1) == [0, 1, 0, 1]).all()  # two of them begin anew half-way
    golden = read(held)
    assert golden.rollouts is not None
    assert golden.raw.shape == (128, 2)
    assert golden.first(8).raw.tolist() == golden.rollouts.split(golden.raw)[:, :2].reshape(-1, 2).tolist()


def cut(rows: slice, steps: slice) -> Callable[[Arrays], Arrays]:
    return lambda held: {key: array[rows, steps] for key, array in held.items()}


def put(key: str, place: tuple[int | slice, ...], value: float) -> Callable[[Arrays], Arrays]:
    def change(held: Arrays) -> Arrays:
        held[key][place] = value
        return held

    return change


def without(key: str) -> Callable[[Arrays], Arrays]:
    return lambda held: {name: array for name, array in held.items() if name != key}


def beginning(steps: slice, rows: slice = slice(None)) -> Callable[[Arrays], Arrays]:
    return put("reset", (rows, steps), 1.0)


def never_changing(held: Arrays) -> Arrays:
    return held | {key: np.full_like(array, 0.25) for key, array in held.items() if key.startswith(("state.", "next."))}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (cut(slice(3), slice(None)), "at least 4 and 32"),
        (cut(slice(None), slice(31)), "at least 4 and 32"),
        (lambda held: {key: a.reshape(-1, *a.shape[2:]) for key, a in held.items()}, "the policy has a memory"),
        (lambda held: {**held, "raw": held["raw"][:, :31]}, "the same episodes and steps first"),
        (without("reset"), "has no array 'reset'"),
        (without("next.c"), "has no array 'next.c'"),
        (lambda held: {**held, "state.h": held["state.h"].astype(np.float64)}, "state h: expected finite float32"),
        (put("state.c", (0, 0, 3), np.nan), "state c: expected finite"),
        (put("state.h", (1, 9, 0), 0.125), "state h: a step was not given what the step before returned"),
        (put("reset", (2, 0), 0.0), "reset: expected float32, 1 at the first step"),
        (put("reset", (2, 5), 0.5), "0 or 1 later"),
        (beginning(slice(None)), "it is 0 at 0 of 128, and at 0 in a row of one"),
        (beginning(slice(15, None)), "it is 0 at 56 of 128, and at 14 in a row"),
        (beginning(slice(None, None, 8), slice(1)), "it is 0 at 119 of 128, and at 7 in a row of one"),
        (never_changing, "h, c: the same after every step: the policy has no memory"),
    ],
)
def test_rollouts_that_show_too_little_or_do_not_hang_together_are_refused(
    change: Callable[[Arrays], Arrays], complaint: str
):
    with pytest.raises(ArtifactError, match=complaint):
        read(change(arrays()))


def test_another_memory_is_not_accepted_by_rollouts_in_which_every_step_begins():
    export = exported_lstm()
    golden = export.engine.golden
    rollouts = golden.rollouts
    assert rollouts is not None
    begun = export.engine.act(golden.observations)
    given = {name: rollouts.split(array).copy() for name, array in rollouts.state.items()}
    for name, array in given.items():
        array[:, 1:] = rollouts.split(begun.state[name])[:, :-1]  # so that it hangs together
    states = {name: array.reshape(rollouts.state[name].shape) for name, array in given.items()}
    shown = dataclasses.replace(rollouts, reset=np.ones_like(rollouts.reset), state=states, next=begun.state)
    forged = dataclasses.replace(
        golden, raw=begun.raw, distribution=begun.distribution, action=begun.control, rollouts=shown
    )
    with pytest.raises(ArtifactError, match="the memory is never used"):
        Engine(with_golden(export.artifact, forged), "cpu")


def test_another_next_state_is_no_parity_and_the_error_names_one_element():
    export = exported_lstm()
    held = arrays()
    held["next.c"][0, -1, 5] += 0.01  # of the last step, so that the rollout still hangs together
    with pytest.raises(ParityError, match=r"next.c of row 31 is \[[-.e\d]+\] here"):
        Engine(with_golden(export.artifact, read(held)), "cpu")


def test_actions_that_drift_apart_only_while_running_freely_are_no_parity():
    artifact = exported_lstm().artifact
    strict = msgspec.structs.replace(artifact.card.parity, atol=1e-4, rtol=0.0, free_running=0.0)
    card = msgspec.structs.replace(artifact.card, parity=strict)
    files = {name: artifact.files[name] for name in card.files}
    with pytest.raises(ParityError, match=r"remembering 0\.1\.0, running freely: \w+ of row"):
        Engine(seal(card, files), "cpu", "onnx")
