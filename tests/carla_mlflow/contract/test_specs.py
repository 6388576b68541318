from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_mlflow import ArraySpec, ObservationSpec
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.errors import CardError, SpecError

SPEED = ArraySpec("speed", "float32", (), 0.0, 60.0, "m/s")
BEAMS = ArraySpec("sensors", "float32", (12,), 0.0, 1.0)
IMAGE = ArraySpec("bev", "uint8", (2, 4, 4), 0, 255)
PEDALS = ActionCard("deterministic", {"acceleration": (-1, 1), "steer": (-1, 1)}, "acceleration_steer", 10, {})
SPECS = ObservationSpec((SPEED, BEAMS))


def test_validate_names_row_bound_and_value_of_what_leaves_the_bounds():
    batch = np.array([10.0, 61.0], dtype=np.float32)
    with pytest.raises(SpecError, match=r"^observations\[1\]\.speed: 61 is outside \[0, 60\] m/s$"):
        SPEED.validate(batch)


def test_validate_names_the_element_of_a_vector():
    batch = np.full((3, 12), 0.5, dtype=np.float32)
    batch[2, 7] = -0.25
    with pytest.raises(SpecError, match=r"^observations\[2\]\.sensors\[7\]: -0.25 is outside \[0, 1\] 1$"):
        BEAMS.validate(batch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_validate_refuses_what_is_not_finite(value: float):
    unbounded = ArraySpec("x", "float32", ())
    for spec in (SPEED, unbounded):
        with pytest.raises(SpecError, match=r"observations\[0\].* is not a finite float32"):
            spec.validate(np.array([value], dtype=np.float32))


@pytest.mark.parametrize("shape", [(3, 11), (3, 13), (12,), (3, 12, 1)])
def test_validate_refuses_another_shape(shape: tuple[int, ...]):
    with pytest.raises(SpecError, match=r"expected shape \[rows, 12\]"):
        BEAMS.validate(np.zeros(shape, dtype=np.float32))


def test_validate_refuses_another_dtype():
    with pytest.raises(SpecError, match="expected uint8, got float32"):
        IMAGE.validate(np.zeros((1, 2, 4, 4), dtype=np.float32))


def test_bounds_are_rounded_to_the_dtype():
    tenth = ArraySpec("x", "float32", (), 0.0, 0.1)
    tenth.validate(np.array([0.1], dtype=np.float32))  # float32(0.1) lies above the float64 0.1


def test_bounds_may_differ_by_element():
    spec = ArraySpec("x", "float32", (2,), (0.0, -1.0), (1.0, 0.0))
    spec.validate(np.array([[1.0, -1.0]], dtype=np.float32))
    with pytest.raises(SpecError, match=r"observations\[0\]\.x\[1\]: 0.5 is outside \[-1, 0\]"):
        spec.validate(np.array([[0.5, 0.5]], dtype=np.float32))


@pytest.mark.parametrize(
    "arguments",
    [
        ("a b", "float32", ()),
        ("x", "float32", (0,)),
        ("x", "float32", (), 1.0, 0.0),
        ("x", "uint8", (), -1.0, 255.0),
        ("x", "float32", (), 0.0, 1e39),
        ("x", "float32", (3,), (0.0, 0.0), 1.0),
        ("x", "float32", (2,), (None, None, None), 1.0),
        ("x", "float32", (), None, None, "1", (2.0, 1.0)),
        ("x", "float32", (2,), None, None, "1", ((0.0, 0.0, 0.0), 1.0)),
        ("x", "float32", (2, 2), ((0.0, 1.0), (0.0,)), 5.0),
        ("x", "float32", (2, 2), ((0.0, 1.0), 2.0), 5.0),
        ("x", "float32", (2, 2), ((0.0, 1.0, 2.0), (0.0, 1.0, 2.0)), 5.0),
        ("x", "float32", (2,), ((0.0, 1.0),), 5.0),
        ("x", "uint8", (), 0.0, 5.0, "1", None, 5),
        ("x", "uint8", (), None, None, "1", None, 6),
        ("x", "float32", (), 0.5, 5.5, "1", None, 6),
        ("x", "float32", (), 0.0, 2.0**24 + 2, "1", None, 2**24 + 3),
        ("x", "uint8", (2,), 0.0, (2.0, 1.0), "1", None, (3, 2, 1)),
        ("x", "uint8", (), 0.0, 2.0, "1", None, ()),
    ],
)
def test_a_spec_that_contradicts_itself_can_not_be_made(arguments: tuple):
    with pytest.raises(CardError):
        ArraySpec(*arguments)


bounds = st.floats(-1e6, 1e6, width=32)


@given(bounds, bounds, st.sampled_from([(), (1,), (5,), (2, 3)]), st.integers(0, 2**32))
def test_whatever_a_spec_draws_conforms_to_it(one: float, other: float, shape: tuple[int, ...], seed: int):
    low, high = sorted((one, other))
    pairs = [(low, high), (None, high), (low, None), (None, None)]
    if shape:
        width = shape[-1]
        pairs += [((None, low, low, None, low)[:width], (high, None, high, None, high)[:width])]
    for given_low, given_high in pairs:
        for seen in (None, (low - 7, low + 1), (high, high + 7)):
            spec = ArraySpec("x", "float32", shape, given_low, given_high, seen=seen)
            rng = np.random.default_rng(seed)
            for batch in (spec.sample(rng, 4), spec.corners(rng, 4), spec.decades(rng, 4), spec.generate_value()[None]):
                spec.validate(batch)


HALF_OPEN = ArraySpec("x", "float32", (3,), (-4.8, None, 0.0), (4.8, None, None))


def test_an_open_element_leaves_the_others_their_bounds():
    HALF_OPEN.validate(np.array([[4.8, -3e38, 3e38]], dtype=np.float32))
    with pytest.raises(SpecError, match=r"observations\[0\]\.x\[0\]: 5 is outside \[-4\.8, 4\.8\]"):
        HALF_OPEN.validate(np.array([[5, 0, 0]], dtype=np.float32))
    with pytest.raises(SpecError, match=r"x\[2\]: -1 is outside \[0, "):
        HALF_OPEN.validate(np.array([[0, 0, -1]], dtype=np.float32))
    with pytest.raises(SpecError, match=r"x\[1\]: inf is not a finite float32"):
        HALF_OPEN.validate(np.array([[0, np.inf, 0]], dtype=np.float32))


@pytest.mark.parametrize("largest", [None, 3.4028234663852886e38])
def test_an_open_element_is_drawn_from_what_was_seen_and_others_from_their_bounds(largest: float | None):
    smallest = None if largest is None else -largest
    low, high = (-4.8, smallest, 0.0), (4.8, largest, largest)  # older cards say the largest float32 for no bound
    rng = np.random.default_rng(0)
    for seen, wanted_low, wanted_high in (
        (None, [-4.8, -10, 0], [4.8, 10, 20]),
        (((-1.0, -2.0, 3.0), (1.0, 2.0, 7.0)), [-4.8, -2, 0], [4.8, 2, 7]),
        ((-3.0, 3.0), [-4.8, -3, 0], [4.8, 3, 3]),
    ):
        spec = ArraySpec("x", "float32", (3,), low, high, seen=seen)
        corners = spec.corners(rng, 200)
        np.testing.assert_array_equal(corners.min(axis=0), np.float32(wanted_low))
        np.testing.assert_array_equal(corners.max(axis=0), np.float32(wanted_high))
        uniform = spec.sample(rng, 1000)
        assert ((uniform >= np.float32(wanted_low)) & (uniform <= np.float32(wanted_high))).all()
        assert np.ptp(uniform, axis=0) == pytest.approx(np.subtract(wanted_high, wanted_low), rel=0.02)
        np.testing.assert_array_equal(spec.generate_value(), [0, 0, 0])


def test_what_training_saw_tells_what_is_news_to_a_policy():
    low, high = SPEED.usual
    assert (low, high) == (pytest.approx(0.3), pytest.approx(59.7))
    assert [end.tolist() for end in ArraySpec("v", "float32", (), 0.0, 60.0, seen=(2.0, 9.0)).usual] == [2, 9]
    low, high = HALF_OPEN.usual
    np.testing.assert_allclose(low, [-4.752, -np.inf, -np.inf])
    np.testing.assert_allclose(high, [4.752, np.inf, np.inf])
    assert HALF_OPEN.has_usual
    assert not ArraySpec("v", "float32", (2,)).has_usual
    assert ArraySpec("v", "float32", (2,), seen=(-1.0, (1.0, 2.0))).has_usual


def test_arrays_of_different_length_are_refused():
    arrays = {"speed": np.zeros(2, np.float32), "sensors": np.zeros((3, 12), np.float32)}
    with pytest.raises(SpecError, match="arrays differ in length: speed 2, sensors 3"):
        SPECS.validate(arrays)


def test_no_row_is_refused():
    arrays = {"speed": np.zeros(0, np.float32), "sensors": np.zeros((0, 12), np.float32)}
    with pytest.raises(SpecError, match="at least one row"):
        SPECS.validate(arrays)


@pytest.mark.filterwarnings("ignore")  # what MLflow warns of at import
def test_the_mlflow_signature_has_a_column_a_field_or_named_tensors_for_images():
    from carla_mlflow.flavor.signature import signature_of

    signature = signature_of(SPECS, PEDALS)
    assert [(c.name, str(c.type)) for c in signature.inputs.inputs] == [
        ("speed", "DataType.double"),
        ("sensors", "Array(double)"),
    ]
    assert [p.name for p in signature.params] == ["deterministic", "seed"]
    tensors = signature_of(ObservationSpec((IMAGE, SPEED)), PEDALS).inputs
    assert [(t.name, t.shape, str(t.type)) for t in tensors.inputs] == [
        ("bev", (-1, 2, 4, 4), "uint8"),
        ("speed", (-1,), "float32"),
    ]


COMMAND = ArraySpec("command", "uint8", (), 0.0, 5.0, choices=6)
GEARS = ArraySpec("gears", "float32", (2,), 0.0, (2.0, 499.0), choices=(3, 500))


@pytest.mark.parametrize(
    ("spec", "value", "complaint"),
    [
        (COMMAND, 6, r"observations\[0\]\.command: 6 is none of its choices, the whole numbers from 0 to 5"),
        (GEARS, [2, 1.5], r"observations\[0\]\.gears\[1\]: 1\.5 is none of its choices, .* from 0 to 499"),
        (GEARS, [2.0000002, 1], r"gears\[0\]: 2\.00000024 is none of its choices, .* from 0 to 2"),
        (GEARS, [3, 499], r"gears\[0\]: 3 is none of its choices"),
        (GEARS, [0, np.nan], r"gears\[1\]: nan is not a finite float32"),
    ],
)
def test_a_value_that_is_none_of_the_choices_is_refused_by_name(spec: ArraySpec, value: object, complaint: str):
    with pytest.raises(SpecError, match=complaint):
        spec.validate(np.asarray([value], spec.dtype))


@pytest.mark.parametrize("spec", [COMMAND, GEARS, ArraySpec("x", "float32", (), -2.0, 3.0, choices=6)])
def test_drawn_choices_are_choices_and_all_occur(spec: ArraySpec):
    rng = np.random.default_rng(0)
    for batch in (spec.sample(rng, 99), spec.corners(rng, 99), spec.decades(rng, 99), spec.generate_value()[None]):
        assert batch.dtype == spec.dtype
        spec.validate(batch)
    first = spec.sample(rng, 200).reshape(200, -1)[:, 0]
    assert len(np.unique(first)) == (3 if spec is GEARS else 6)


def test_no_choice_is_less_usual_than_another():
    assert not GEARS.has_usual
    assert not COMMAND.has_usual


NESTED = ArraySpec("x", "float32", (2, 2), ((0.0, None), (2.0, 3.0)), ((1.0, 2.0), (None, 4.0)))


def test_bounds_may_differ_by_element_along_several_axes():
    NESTED.validate(np.float32([[[1, -1e9], [1e9, 4]]]))
    with pytest.raises(SpecError, match=r"observations\[1\]\.x\[1\]\[0\]: 1\.5 is outside \[2, 3\.40282e\+38\]"):
        NESTED.validate(np.float32([[[1, 0], [3, 4]], [[1, 0], [1.5, 4]]]))
    rng = np.random.default_rng(0)
    for batch in (NESTED.sample(rng, 9), NESTED.corners(rng, 9), NESTED.decades(rng, 9), NESTED.generate_value()[None]):
        NESTED.validate(batch)
    assert [np.argwhere(part).tolist() for part in NESTED.is_open] == [[[0, 1]], [[1, 0]]]


def test_a_level_of_one_element_stands_for_its_axis():
    image = ArraySpec("x", "uint8", (2, 3, 3), 0.0, (((1.0,),), ((9.0,),)))
    image.validate(np.ones((1, 2, 3, 3), np.uint8))
    bad = np.ones((1, 2, 3, 3), np.uint8)
    bad[0, 0, 2, 1] = 2
    with pytest.raises(SpecError, match=r"x\[0\]\[2\]\[1\]: 2 is outside \[0, 1\]"):
        image.validate(bad)
