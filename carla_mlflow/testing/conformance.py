"""The checks: each takes a Subject, and raises FailedError unless what its name says is true."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..artifact.artifact import open_artifact, seal, write_artifact
from ..contract.answer import answer_bounds, answer_columns
from ..contract.array_spec import ArraySpec
from ..errors import IntegrityError, ParityError
from ..inference.engine import Engine
from .memory_checks import MEMORY_CHECKS
from .subject import Subject, expect, refusal_of


def it_acts_as_the_trained_policy_did(subject: Subject) -> None:
    seen, known = subject.engine.verify_parity(), subject.engine.parity_difference
    expect(seen == known, f"differs from the golden rows by {seen:g} now, by {known:g} when it was loaded")


def a_row_gets_the_same_bits_in_any_batch_and_position(subject: Subject) -> None:
    rng = np.random.default_rng(4)
    for size in range(1, subject.count + 1, 3 if subject.engine.specs.has_image else 1):
        rows = rng.integers(0, subject.count, size).tolist()
        expect(subject.bits(rows) == [subject.alone[row] for row in rows], f"other bits in a batch of {size} rows")


def a_row_gets_the_same_bits_under_concurrent_load(subject: Subject) -> None:
    wrong: list[list[int]] = []
    wanted = subject.alone

    def act_repeatedly(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(4 if subject.engine.specs.has_image else 60):
            rows = rng.integers(0, subject.count, rng.integers(1, 12)).tolist()
            if subject.bits(rows) != [wanted[row] for row in rows]:
                wrong.append(rows)

    threads = [threading.Thread(target=act_repeatedly, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not wrong, f"other bits beside other threads, in batches such as {wrong[:1]}")


def every_action_is_finite_and_inside_its_bounds(subject: Subject) -> None:
    sampled: dict[str, Any] = {"deterministic": False, "seed": 5}
    action = subject.engine.card.action
    low, high = action.bounds
    columns = answer_columns(action)
    least, most = answer_bounds(columns)
    for how in ({}, sampled) if action.head != "deterministic" else ({},):
        actions = subject.act(subject.observations, **how)
        control = actions.control
        inside = (control >= least) & (control <= most)
        expect(inside.all(), f"an action outside the bounds of {', '.join(action.control_names)}")
        whole = control[:, [column.choices > 0 for column in columns]]
        expect((whole == np.rint(whole)).all(), "a choice that is not a whole number")
        expect(((actions.raw >= low) & (actions.raw <= high)).all(), "a raw action outside the card's bounds")
        finite = all(np.isfinite(values).all() for values in actions.distribution.values())
        expect(finite, "a parameter of the distribution that is not finite")


def a_sample_depends_on_seed_and_observation_alone(subject: Subject) -> None:
    if subject.engine.card.action.head == "deterministic":
        text = refusal_of(subject, subject.take([0]), deterministic=False).problem
        expect("no distribution" in text, f"a deterministic head refused to sample with {text!r}")
        return
    how: dict[str, Any] = {"deterministic": False, "seed": 7}
    order = list(range(min(12, subject.count)))
    together = subject.bits(order, **how)
    expect(subject.bits(order[::-1], **how) == together[::-1], "another order gives another sample")
    one_by_one = [subject.bits([row], **how)[0] for row in order]
    expect(one_by_one == together, "a row alone gives another sample than in a batch")
    expect(subject.bits(order, deterministic=False, seed=8) != together, "another seed gives the same sample")


def anything_outside_the_spec_is_refused_naming_row_field_bound_and_value(subject: Subject) -> None:
    rows = list(range(min(9, subject.count)))
    for spec in subject.engine.specs:
        for bad, text in outside(spec):
            batch = {name: array.copy() for name, array in subject.take(rows).items()}
            batch[spec.name][rows[-1] :].reshape(-1)[-1:] = bad
            refusal = refusal_of(subject, batch)
            named = refusal.field.startswith(f"observations[{rows[-1]}].{spec.name}")
            expect(named and text in refusal.problem, f"{bad} in {spec.name} was refused as {refusal}")
    expect(subject.bits(rows) == subject.alone[: len(rows)], "a refused batch changed the answers to the next one")


def a_wrong_shape_dtype_or_name_is_refused(subject: Subject) -> None:
    one = subject.take([0])
    for spec in subject.engine.specs:
        wrong = {**one, spec.name: np.zeros((1, *spec.shape, 2), spec.dtype)}
        less = {name: array for name, array in one.items() if name != spec.name}
        for batch in (wrong, less):
            refusal = refusal_of(subject, batch)
            expect(spec.name in str(refusal), f"{spec.name} was wrong or absent, and the refusal says {refusal}")
    for batch, text in (
        ({**one, "surprise": np.zeros(1, np.float32)}, "unknown field"),
        ({name: array[:0] for name, array in one.items()}, "at least one row"),
    ):
        refusal = refusal_of(subject, batch)
        expect(text in str(refusal), f"expected {text!r}, and the refusal says {refusal}")


def lists_and_arrays_of_any_layout_mean_the_same(subject: Subject) -> None:
    one = subject.take([0])
    fortran = {name: np.asfortranarray(array) for name, array in one.items()}
    expect(subject.bits([0], fortran) == subject.alone[:1], "Fortran's order of an array's elements gives other bits")
    if not subject.engine.specs.has_image:
        observed = {name: one[name] for name in subject.engine.specs.names}
        rows = [{name: array[0].tolist() for name, array in observed.items()}]
        same = subject.engine.act(rows).raw.tobytes() == subject.engine.act(observed).raw.tobytes()
        expect(same, "lists of numbers give other bits than arrays")


def reversed_and_read_only_arrays_mean_the_same(subject: Subject) -> None:
    last = {name: array[-4:][::-1] for name, array in subject.observations.items()}
    expect(subject.bits([0, 1, 2, 3], last) == subject.alone[-1:-5:-1], "a reversed array gives other bits")
    for index, wanted in enumerate(subject.alone[-1:-5:-1]):
        part = {name: array[index : index + 1] for name, array in last.items()}
        expect(subject.bits([0], part) == [wanted], "a row of a reversed array gives other bits")
    observations = subject.observations.items()
    frozen = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in observations}
    expect(subject.bits(range(subject.count), frozen) == subject.alone, "read-only arrays give other bits")


def arrays_of_the_caller_are_left_as_they_were(subject: Subject) -> None:
    before = {name: array.tobytes() for name, array in subject.observations.items()}
    subject.act(subject.observations)
    after = {name: array.tobytes() for name, array in subject.observations.items()}
    expect(before == after, "the engine changed the caller's arrays")


def golden_rows_of_another_policy_are_told_apart(subject: Subject) -> None:
    golden, card = subject.engine.golden, subject.artifact.card
    golden.raw[3, 0] += 0.01 if golden.raw[3, 0] <= 0 else -0.01
    files = {name: subject.artifact.files[name] for name in card.files} | {card.parity.file: golden.to_bytes()}
    golden.raw[3, 0] = subject.engine.act(golden.observations, **golden.given).raw[3, 0]
    try:  # not strict: parity is the question, and the batch shapes need not be verified again for it
        Engine(seal(card, files), subject.engine.device.name, subject.engine.backend, subject.trusted, strict=False)
    except ParityError as error:
        expect("raw of row 3" in str(error), f"the refusal says {error}")
    else:
        expect(False, "golden rows of another policy were taken for its own")


def the_pin_is_the_digest_of_the_card(subject: Subject) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as scratch:
        written = write_artifact(Path(scratch) / "copy", subject.artifact)
        same = open_artifact(written.path, subject.artifact.digest).files == subject.artifact.files
        expect(same, "a copy holds other bytes")
        try:
            open_artifact(written.path, "sha256:" + "0" * 64)
        except IntegrityError as error:
            expect("was pinned" in str(error), f"the refusal says {error}")
        else:
            expect(False, "another digest than the pinned one was taken")


def outside(spec: ArraySpec) -> Iterator[tuple[float, str]]:
    """Values that the spec refuses, and the text that each error has to contain."""
    low, high = (np.ravel(np.broadcast_to(bound, spec.shape))[-1] for bound in (spec.lows, spec.highs))
    text = f"outside [{low:.6g}, {high:.6g}]"
    if spec.choices is not None:
        text = f"none of its choices, the whole numbers from {low:g} to {high:g}"
    if spec.dtype == "uint8":
        yield from [(low - 1, text)] if low > 0 else []
        yield from [(high + 1, text)] if high < 255 else []
        return
    yield from [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")]
    if spec.choices is not None:
        yield from [(low - 1, text), (low + 0.5, text), (high + 1, text)]
        return
    with np.errstate(over="ignore"):  # the next value beyond an open bound is infinite
        beyond = [np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))]
    yield from ((value, f"{value:.6g} is {text}") for value in beyond if np.isfinite(value))


CHECKS: tuple[Callable[[Subject], None], ...] = (
    it_acts_as_the_trained_policy_did,
    a_row_gets_the_same_bits_in_any_batch_and_position,
    a_row_gets_the_same_bits_under_concurrent_load,
    every_action_is_finite_and_inside_its_bounds,
    a_sample_depends_on_seed_and_observation_alone,
    anything_outside_the_spec_is_refused_naming_row_field_bound_and_value,
    a_wrong_shape_dtype_or_name_is_refused,
    lists_and_arrays_of_any_layout_mean_the_same,
    reversed_and_read_only_arrays_mean_the_same,
    arrays_of_the_caller_are_left_as_they_were,
    golden_rows_of_another_policy_are_told_apart,
    the_pin_is_the_digest_of_the_card,
    *MEMORY_CHECKS,
)
