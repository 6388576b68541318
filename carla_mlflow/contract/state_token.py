"""State tokens: a policy's memory as bytes that the client carries from one request to the next. Pure.

A token is opaque to clients. No server keeps anything of an episode, so that any worker, replica or restart may answer:

    1 byte     the format, FORMAT
    4 bytes    which key made the checksum, the first bytes of its BLAKE2b hash
    32 bytes   the digest of the policy's artifact
    4 bytes    the step: how many actions of the episode came before it and with it, uint32, little-endian
    4 N bytes  the states in the card's order, float32, little-endian, C order
    16 bytes   keyed BLAKE2b (RFC 7693) of all bytes before

With a key of its own a server accepts only what a server with the same key made. Without one the key follows from the
digest, which every client knows: the checksum then catches damage, not malice.
"""

from __future__ import annotations

import binascii
import hmac
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ActionError, EpisodeError, SpecError

STATE = "state"
"""The name under which tokens travel: a key of each observation and action, a column, or a tensor."""
FORMAT = b"\x01"
KEY_ID_BYTES, DIGEST_BYTES, STEP_BYTES, CHECKSUM_BYTES = 4, 32, 4, 16
_DIGEST_AT = len(FORMAT) + KEY_ID_BYTES
_STEP_AT = _DIGEST_AT + DIGEST_BYTES
_PAYLOAD_AT = _STEP_AT + STEP_BYTES
MAX_STEP = 2**32 - 1
"""The step of a token stays at this number once it has come so far."""

_OF_SECRET, _OF_DIGEST = b"policy state key", b"policy digest"  # `person` of BLAKE2b: at most 16 bytes

States = dict[str, NDArray[np.float32]]


class Decoded(NamedTuple):
    """What the tokens of a batch hold.

    Attributes:
        state: name → float32 (B, *shape); zeros in rows that begin.
        reset: bool (B,), whether a row's episode begins.
        steps: uint32 (B,), how many actions each row's episode has had.
    """

    state: States
    reset: NDArray[np.bool_]
    steps: NDArray[np.uint32]


class StateTokens:
    """Encodes and decodes the state tokens of one version of a policy.

    Attributes:
        key_id: the 4 bytes that say which key made a token.
        token_bytes: the length of every token, bytes.
    """

    def __init__(self, digest: str, shapes: Mapping[str, Sequence[int]], key: str = "") -> None:
        """Prepares the checksum's key.

        Args:
            digest: the artifact's, `sha256:` and 64 hex digits.
            shapes: name → shape of each state, in the card's order.
            key: the servers' secret, any text; empty for a key that follows from the digest.
        """
        self._digest, self._shapes, self._secret = _raw(digest), {n: tuple(s) for n, s in shapes.items()}, key
        made = _key(self._secret, self._digest)
        self._checksum = blake2b(key=made, digest_size=CHECKSUM_BYTES)
        self.key_id = _key_id(made)
        self._prefix = FORMAT + self.key_id + self._digest
        self._floats = sum(math.prod(shape) for shape in self._shapes.values())
        self.token_bytes = token_bytes(self._floats)

    def __repr__(self) -> str:
        return f"<StateTokens of {self.token_bytes} bytes>"  # without the key

    def encode(self, state: Mapping[str, NDArray[np.float32]], steps: NDArray[np.uint32]) -> list[bytes]:
        """Encodes the states of a batch, one token a row.

        Args:
            state: name → float32 (B, *shape), as the policy gave it.
            steps: uint32 (B,), how many actions each episode has had, this one included.

        Raises:
            ActionError: the policy computed a state of another shape, or one that is not finite.
        """
        rows = len(steps)
        whole = np.empty((rows, self.token_bytes - CHECKSUM_BYTES), np.uint8)
        whole[:, :_STEP_AT] = np.frombuffer(self._prefix, np.uint8)
        whole[:, _STEP_AT:_PAYLOAD_AT] = steps.astype("<u4").reshape(rows, 1).view(np.uint8)
        payload = np.empty((rows, self._floats), "<f4")
        start = 0
        for name, shape in self._shapes.items():
            values, width = state[name], math.prod(shape)
            if values.shape != (rows, *shape):
                raise ActionError(f"the policy computed a state {name} of shape {list(values.shape)}")
            payload[:, start : start + width] = values.reshape(rows, width)
            start += width
        if not np.isfinite(payload).all():
            raise ActionError("the policy computed a state that is not finite")
        whole[:, _PAYLOAD_AT:] = payload.view(np.uint8)
        bodies = [row.tobytes() for row in whole]
        return [body + self._sum(body) for body in bodies]

    def decode(self, tokens: Sequence[bytes | None]) -> Decoded:
        """Decodes the tokens of a batch; an empty one or None stands for an episode that begins.

        Raises:
            SpecError: a token is damaged; names the row.
            EpisodeError: it was made with another key, or by another version; names the row.
        """
        steps = np.zeros(len(tokens), np.uint32)
        payload = np.zeros((len(tokens), self._floats), np.float32)
        given = [row for row, token in enumerate(tokens) if token]
        if given:
            found = self._verified([tokens[row] or b"" for row in given], given)
            steps[given] = found[:, _STEP_AT:_PAYLOAD_AT].copy().view("<u4")[:, 0]
            payload[given] = found[:, _PAYLOAD_AT:-CHECKSUM_BYTES].copy().view("<f4")
            finite = np.isfinite(payload).all(axis=1)
            if not finite.all():
                raise _damaged(int(np.argmin(finite)))
        reset = np.ones(len(tokens), np.bool_)
        reset[given] = False
        state: States = {}
        start = 0
        for name, shape in self._shapes.items():
            width = math.prod(shape)
            state[name] = np.ascontiguousarray(payload[:, start : start + width]).reshape(-1, *shape)
            start += width
        return Decoded(state, reset, steps)

    def others(self, tokens: Sequence[bytes | None]) -> dict[str, int]:
        """The digests of other versions that tokens say they are of, unverified, each with its first row."""
        mine = self._digest
        found: dict[str, int] = {}
        for row, token in enumerate(tokens):
            if token and token[_DIGEST_AT:_STEP_AT] != mine:
                digest = digest_of(token)
                if digest is not None:
                    found.setdefault(digest, row)
        return found

    def _verified(self, tokens: list[bytes], rows: list[int]) -> NDArray[np.uint8]:
        """The tokens as bytes, (len(tokens), token_bytes), if each is one of ours; `rows` are theirs, for the error."""
        prefix, length = self._prefix, self.token_bytes
        if not all(len(token) == length and token.startswith(prefix) for token in tokens):
            raise self._explain(tokens, rows)
        expected = b"".join([self._sum(token[:-CHECKSUM_BYTES]) for token in tokens])
        if not hmac.compare_digest(expected, b"".join([token[-CHECKSUM_BYTES:] for token in tokens])):
            raise self._explain(tokens, rows)
        return np.frombuffer(b"".join(tokens), np.uint8).reshape(len(tokens), length)

    def _sum(self, body: bytes) -> bytes:
        checksum = self._checksum.copy()  # the key is hashed already
        checksum.update(body)
        return checksum.digest()

    def _explain(self, tokens: list[bytes], rows: list[int]) -> SpecError | EpisodeError:
        for token, row in zip(tokens, rows, strict=True):
            error = self._problem(token, row)
            if error is not None:
                return error
        raise RuntimeError("every token is one of ours")

    def _problem(self, token: bytes, row: int) -> SpecError | EpisodeError | None:
        """Why a token is not accepted; None if it is."""
        digest = token[_DIGEST_AT:_STEP_AT]
        if len(token) < _PAYLOAD_AT + CHECKSUM_BYTES:
            return _damaged(row)
        if not token.startswith(FORMAT):  # while servers of two releases take turns
            text = "has another format, as another release of the server makes it; the episode has to begin anew"
            return EpisodeError("state_of_another_version", state_field(row), text)
        made = _key(self._secret, digest)  # as another version of this server would have made it
        if not hmac.compare_digest(_key_id(made), token[len(FORMAT) : _DIGEST_AT]):
            text = "was made with another key; the episode can't be continued here and has to begin anew"
            return EpisodeError("state_of_another_key", state_field(row), text)
        body, given = token[:-CHECKSUM_BYTES], token[-CHECKSUM_BYTES:]
        if not hmac.compare_digest(blake2b(body, key=made, digest_size=CHECKSUM_BYTES).digest(), given):
            return _damaged(row)
        if digest != self._digest:
            text = "was made by another version of the policy, which is not held here; the episode has to begin anew"
            return EpisodeError("state_of_another_version", state_field(row), text)
        return None if len(token) == self.token_bytes else _damaged(row)


def token_bytes(elements: int) -> int:
    """The length of a token whose states have so many elements together, bytes."""
    return _PAYLOAD_AT + 4 * elements + CHECKSUM_BYTES


def to_text(token: bytes) -> str:
    """A token as text: base64 with padding, without line breaks."""
    return binascii.b2a_base64(token, newline=False).decode()


def from_text(text: Any, field: str) -> bytes | None:
    """Reads a token that `to_text` wrote; None for an episode that begins: no text, or an empty one.

    Args:
        text: of any type.
        field: the value's place in the request.

    Raises:
        SpecError: it is anything else, also another spelling of the same bytes.
    """
    if text is None or text == "":
        return None
    try:
        token = binascii.a2b_base64(text.encode() if isinstance(text, str) else b"!", strict_mode=True)
    except ValueError as error:
        raise SpecError(field, "is not a state token: expected base64, as in the last answer") from error
    rest = len(token) % 3
    if rest and to_text(token[-rest:]) != text[-4:]:  # bits that base64 ignores
        raise SpecError(field, "is not a state token: expected base64, as in the last answer")
    return token


def from_bytes(row: NDArray[np.uint8]) -> bytes | None:
    """A token of an array of its bytes, (N,); None for zeros, which stand for an episode that begins."""
    return row.tobytes() if row.any() else None


def digest_of(token: bytes) -> str | None:
    """The digest of the version that a token says it is of, unverified; None for what is too short to be a token."""
    if len(token) < _PAYLOAD_AT + CHECKSUM_BYTES or not token.startswith(FORMAT):
        return None
    return "sha256:" + token[_DIGEST_AT:_STEP_AT].hex()


def next_steps(steps: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The steps after one more action, each at most MAX_STEP."""
    return np.minimum(steps, np.uint32(MAX_STEP - 1)) + np.uint32(1)


def name_of_key(secret: str) -> str:
    """What every token says about the key that made it, hexadecimal; empty for a key that follows from the digest."""
    return _key_id(_key(secret, b"")).hex() if secret else ""


def _key(secret: str, digest: bytes) -> bytes:
    """The key of the checksum, 32 bytes: of the secret, or of the digest where there is none."""
    if secret:
        return blake2b(secret.encode(), digest_size=32, person=_OF_SECRET).digest()
    return blake2b(digest, digest_size=32, person=_OF_DIGEST).digest()


def _key_id(key: bytes) -> bytes:
    return blake2b(key).digest()[:KEY_ID_BYTES]


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:"))


def state_field(row: int) -> str:
    """A row's state token, as errors name it."""
    return f"observations[{row}].{STATE}"


def _damaged(row: int) -> SpecError:
    return SpecError(state_field(row), "is not a state token as this policy gives it: it was changed or cut on its way")
