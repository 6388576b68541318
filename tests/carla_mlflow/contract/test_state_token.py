"""State tokens: what goes in comes out, and nothing but what a server made is taken back."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from carla_mlflow.contract.state_token import MAX_STEP, StateTokens, digest_of, next_steps
from carla_mlflow.errors import ActionError, EpisodeError, SpecError

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
SHAPES = {"h": (1, 8), "c": (8,), "count": ()}
KEY = "a key that a fleet shares"


def states(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(rows, *shape)).astype(np.float32) for name, shape in SHAPES.items()}


def steps(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32)


@pytest.mark.parametrize("key", ["", KEY])
def test_a_batch_of_states_comes_back_bit_by_bit_with_rows_that_begin_in_between(key):
    tokens = StateTokens(DIGEST, SHAPES, key)
    given = states(3)
    made = tokens.encode(given, steps(1, 7, MAX_STEP))
    assert {len(token) for token in made} == {tokens.token_bytes} == {1 + 4 + 32 + 4 + 4 * 17 + 16}
    decoded = tokens.decode([made[0], None, made[1], b"", made[2]])
    assert decoded.reset.tolist() == [False, True, False, True, False]
    assert decoded.steps.tolist() == [1, 0, 7, 0, MAX_STEP]
    for name, values in given.items():
        assert decoded.state[name].dtype == np.float32
        assert decoded.state[name].shape == (5, *SHAPES[name])
        assert np.array_equal(decoded.state[name][[0, 2, 4]], values)
        assert not decoded.state[name][[1, 3]].any()


def test_a_token_is_laid_out_as_the_documentation_says():
    [token] = StateTokens(DIGEST, {"h": (2,)}).encode({"h": np.array([[1.0, -2.0]], np.float32)}, steps(258))
    assert token[:1] == b"\x01"
    assert token[5:37].hex() == "ab" * 32
    assert token[37:41] == bytes([2, 1, 0, 0])
    assert token[41:49] == bytes.fromhex("0000803f000000c0")
    assert len(token) == 65
    assert digest_of(token) == DIGEST
    assert digest_of(token[:40]) is None


def test_a_row_has_the_same_token_in_any_company():
    tokens, given = StateTokens(DIGEST, SHAPES, KEY), states(64)
    together = tokens.encode(given, np.arange(64, dtype=np.uint32))
    alone = [
        tokens.encode({name: values[row : row + 1] for name, values in given.items()}, steps(row))[0]
        for row in range(64)
    ]
    assert together == alone


def changed(rng: np.random.Generator, one: bytes, other: bytes) -> bytes:
    """A token with a random change: a bit flipped, bytes overwritten, cut, lengthened, or two tokens spliced."""
    kind, at = rng.integers(6), int(rng.integers(len(one)))
    if kind == 0:
        return one[:at] + bytes([one[at] ^ (1 << int(rng.integers(8)))]) + one[at + 1 :]
    if kind == 1:
        written = rng.bytes(min(int(rng.integers(1, 16)), len(one) - at))
        return one[:at] + written + one[at + len(written) :]
    if kind == 2:
        return one[:at] or b"\x01"
    if kind == 3:
        return one + rng.bytes(int(rng.integers(1, 32)))
    if kind == 4:
        return one[:at] + other[at:]
    start = int(rng.integers(len(one)))
    return one[: min(at, start)] + other[min(at, start) : max(at, start)] + one[max(at, start) :]


@pytest.mark.parametrize("key", ["", KEY])
def test_of_ten_thousand_random_changes_none_is_accepted(key):
    tokens, rng = StateTokens(DIGEST, SHAPES, key), np.random.default_rng(7)
    real = tokens.encode(states(64), np.arange(64, dtype=np.uint32))
    tried = accepted = 0
    while tried < 10_000:
        one, other = (real[int(row)] for row in rng.choice(64, 2, replace=False))
        forged = changed(rng, one, other)
        if forged in real:  # nothing was changed after all
            continue
        tried += 1
        try:
            tokens.decode([one, forged])
            accepted += 1
        except (SpecError, EpisodeError) as error:
            assert error.field == "observations[1].state"  # noqa: PT017
    assert accepted == 0


def test_a_damaged_token_another_key_and_another_version_are_told_apart():
    ours = StateTokens(DIGEST, SHAPES, KEY)
    [mine] = ours.encode(states(1), steps(1))
    [of_other_version] = StateTokens(OTHER, SHAPES, KEY).encode(states(1), steps(1))
    [of_other_key] = StateTokens(DIGEST, SHAPES, "another").encode(states(1), steps(1))
    [without_key] = StateTokens(DIGEST, SHAPES).encode(states(1), steps(1))
    damaged = mine[:50] + bytes([mine[50] ^ 1]) + mine[51:]
    with pytest.raises(SpecError, match=r"observations\[2\].state: is not a state token"):
        ours.decode([mine, None, damaged, of_other_key])
    for token, code in (
        (b"\x02" + mine[1:], "state_of_another_version"),
        (of_other_version, "state_of_another_version"),
        (of_other_key, "state_of_another_key"),
        (without_key, "state_of_another_key"),
    ):
        with pytest.raises(EpisodeError, match=r"observations\[1\].state") as told:
            ours.decode([mine, token])
        assert told.value.code == code


def test_without_a_key_another_version_is_known_by_the_key_that_follows_from_its_digest():
    [token] = StateTokens(OTHER, {"h": (3,)}).encode({"h": np.zeros((1, 3), np.float32)}, steps(1))
    with pytest.raises(EpisodeError) as told:
        StateTokens(DIGEST, SHAPES).decode([token])
    assert told.value.code == "state_of_another_version"
    with pytest.raises(SpecError, match="is not a state token"):
        StateTokens(DIGEST, SHAPES).decode([token[:-1] + bytes([token[-1] ^ 1])])


@pytest.mark.parametrize("kind", ["short", "another format", "random", "zeros"])
def test_what_is_no_token_at_all_is_refused(kind):
    tokens = {"short": b"\x01", "another format": b"\x02" * 200, "zeros": b"\x01" + bytes(300)}
    token = tokens.get(kind) or secrets.token_bytes(200)
    with pytest.raises((SpecError, EpisodeError), match=r"observations\[0\].state") as told:
        StateTokens(DIGEST, SHAPES, KEY).decode([token])
    if kind == "another format":  # of a newer or older release: no damage
        assert (told.value.code, "another release of the server" in str(told.value)) == (
            "state_of_another_version",
            True,
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_becomes_no_token(value):
    tokens, bad = StateTokens(DIGEST, SHAPES), states(3)
    bad["c"][1, 4] = value
    with pytest.raises(ActionError, match="a state that is not finite"):
        tokens.encode(bad, steps(1, 1, 1))


def test_a_state_that_is_not_finite_is_not_taken_from_a_token_either():
    tokens = StateTokens(DIGEST, {"h": (2,)}, KEY)
    [token] = tokens.encode({"h": np.zeros((1, 2), np.float32)}, steps(1))
    body = token[:-20] + np.float32(np.nan).tobytes()
    with pytest.raises(SpecError, match=r"observations\[1\].state"):  # with the right checksum, as only a server makes
        tokens.decode([token, body + tokens._sum(body)])


def test_a_state_of_another_shape_becomes_no_token():
    with pytest.raises(ActionError, match=r"a state h of shape \[1, 3\]"):
        StateTokens(DIGEST, {"h": (2,)}).encode({"h": np.zeros((1, 3), np.float32)}, steps(1))


def test_the_step_counts_up_to_its_largest_number_and_stays_there():
    assert next_steps(steps(0, 5, MAX_STEP - 1, MAX_STEP)).tolist() == [1, 6, MAX_STEP, MAX_STEP]


def test_the_key_is_not_shown():
    assert "secret" not in repr(StateTokens(DIGEST, SHAPES, "secret"))
