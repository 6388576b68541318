"""A client's requests and a policy server's responses as bytes, independent of how these are sent and received.

The wire format is the Open Inference Protocol with binary tensors, which keep every bit, those of images too.
"""

from __future__ import annotations

import math
import re
import struct
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..contract.actions import Actions, check_budget, fallback_actions
from ..contract.answer import answer_bounds, answer_columns
from ..contract.card import Card
from ..contract.episode_core import Answer, check_without_episode, with_remedy
from ..contract.observations import Arrays, collect
from ..contract.running_episode import Request
from ..contract.state_token import STATE
from ..errors import ContractError, ServerError, SpecError
from .unix_address import LOCAL, is_unix, socket_path

Headers = list[tuple[bytes, bytes]]

_DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
_JSON_BYTES = b"inference-header-content-length"
_NAMED_FIELD = re.compile(r"(observations[^:\s]*): ")
"""The field at fault, with which a text of the Open Inference Protocol begins."""
MAX_CARDS = 16
"""How many versions' cards are remembered: those that episodes still use, and those before."""
STAND_IN_S = 5.0
"""How long another version's card is used for one that answered before /metadata tells its own, seconds."""


class Remote:
    """What a client knows of a policy server: its address, and which policy it serves.

    Attributes:
        url: without a slash at its end.
        socket: path of the server's Unix socket; None when it listens on TCP.
        origin: what comes before the path in the URLs of requests.
        card: of the policy behind the latest response, or when the metadata was last fetched.
        version: semantic version of the policy behind the latest response.
        digest: the artifact's digest of that policy.
    """

    card: Card
    version: str
    digest: str

    def __init__(self, url: str, api_key: str, expected: Card | None) -> None:
        self.socket = _socket(url)
        try:
            parts = urllib.parse.urlsplit(url if self.socket is None else LOCAL)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is not a number
            usable = False
        if not usable:
            raise ServerError(f"{url}: expected a URL such as http://127.0.0.1:8080, or unix:/run/policy.sock")
        self.url = url.rstrip("/")
        self.origin = self.url if self.socket is None else LOCAL
        self._expected = expected
        self.headers: Headers = [(b"Host", parts.netloc.rpartition("@")[2].encode())]
        self._cards: dict[str, Card] = {}
        self._stand_ins: dict[str, float] = {}  # digest → when the card was put in another version's place
        if api_key:
            self.headers.append((b"Authorization", f"Bearer {api_key}".encode()))

    def read_metadata(self, status: int, body: bytes, answered: str | None = None) -> None:
        """Reads the response to GET /metadata.

        Args:
            status: of the response.
            body: of the response.
            answered: the digest of an unknown version that answered, the reason to ask. The metadata are of the active
                version, which may be another one: its contract is compared, and its card stands for that of the
                version that answered, for STAND_IN_S seconds at a time.

        Raises:
            ServerError: it is not a policy server's response, or the server is not ready; the text says why.
            ContractError: the served policy observes or acts differently than expected.
        """
        document = self.document(status, body, "/metadata")
        try:
            card = msgspec.convert(document["card"], Card)
            version, digest = str(document["version"]), str(document["digest"])
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise ServerError(f"{self.url}/metadata: not a policy server's metadata: {error}") from error
        if self._expected is not None and card.contract != self._expected.contract:
            raise ContractError(f"{self.url}: {card.name} {version} {_difference(self._expected, card)}")
        self._expected = self._expected or card
        self._cards[digest] = card
        self._stand_ins.pop(digest, None)
        if answered is None:
            self.version, self.digest = version, digest
        else:
            self._stand_in(answered, card)
        self.card = self._cards.get(self.digest, card)
        while len(self._cards) > MAX_CARDS:
            oldest = next(iter(self._cards))
            del self._cards[oldest]
            self._stand_ins.pop(oldest, None)
        self.path = f"/v2/models/{card.name}/infer"
        names = [f"distribution.{name}" for name in card.action.outputs() if name != "raw"]
        self._outputs = [
            {"name": name, "parameters": {"binary_data": True}}
            for name in (*card.action.control_names, "raw", *names, *([STATE] if card.states else []))
        ]
        columns = answer_columns(card.action)
        self._specs = card.observation_spec  # those of all versions that are compared with it
        self._low, self._high = answer_bounds(columns)
        self._chosen = [place for place, column in enumerate(columns) if column.choices]

    def _stand_in(self, digest: str, card: Card) -> None:
        if digest not in self._cards or digest in self._stand_ins:
            self._cards[digest] = card
            self._stand_ins[digest] = time.monotonic()

    @property
    def is_connected(self) -> bool:
        """Whether the server has said which policy it serves."""
        return hasattr(self, "card")

    def is_new(self, digest: str) -> bool:
        """Whether the card of the version that answered is to be asked for; an answer that was late names none."""
        if digest in self._stand_ins:
            return time.monotonic() - self._stand_ins[digest] > STAND_IN_S
        return bool(digest) and digest not in self._cards

    def document(self, status: int, body: bytes, path: str) -> Any:
        """The JSON of a response; raises ServerError when it is an error or not JSON."""
        try:
            document = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise ServerError(f"{self.url}{path}: status {status}, and the body is not JSON") from error
        if status == 200:
            return document
        fields = document if isinstance(document, dict) else {}
        inner = fields.get("error")
        if isinstance(inner, dict):  # our own format; the protocol's has text and code side by side
            field = inner.get("field")
            text = inner.get("message", f"status {status}") + (f" ({field})" if field else "")
            if inner.get("code") == "not_ready":  # its message alone says what the server waits for, such as a registry
                text = f"the server is not ready: {text}; ask again, or look at its /readyz"
            raise ServerError(f"{self.url}{path}: {text}", inner.get("code"), field)
        named = _NAMED_FIELD.match(str(inner))
        raise ServerError(
            f"{self.url}{path}: {inner or f'status {status}'}", fields.get("code"), named.group(1) if named else None
        )

    def collect(self, observations: Any) -> Arrays:
        """The observations of `act` as arrays, checked; SpecError where they do not fit, or only an episode can act."""
        check_without_episode(self.card)
        try:
            return collect(self._specs, observations)
        except SpecError as error:
            raise with_remedy(self.card, error) from error

    def checked(self, asked: Request) -> Request:
        """The request of an episode, its values checked against their bounds before anything is sent."""
        self._specs.validate(asked.question.arrays)
        return asked

    def request(self, asked: Request) -> tuple[Headers, bytes]:
        """Headers and body of a request for actions."""
        check_budget(asked.budget_ms)
        inputs, tensors = [], []
        for spec in self._specs:
            data = np.ascontiguousarray(asked.question.arrays[spec.name])
            data = data.astype(np.dtype(spec.dtype).newbyteorder("<"), copy=False)
            tensors.append(data.tobytes())
            inputs.append(_input(spec.name, data.shape, _DATATYPES[spec.dtype], tensors[-1]))
        if asked.question.state is not None:
            tensors.append(_bytes_tensor(asked.question.state))
            inputs.append(_input(STATE, (1,), "BYTES", tensors[-1]))
        parameters: dict[str, Any] = {"deterministic": asked.deterministic}
        if asked.seed is not None:
            parameters["seed"] = asked.seed
        if asked.budget_ms is not None:
            parameters["budget_ms"] = asked.budget_ms
        head = msgspec.json.encode({"parameters": parameters, "inputs": inputs, "outputs": self._outputs})
        framing = [(b"Content-Type", b"application/octet-stream"), (_JSON_BYTES, b"%d" % len(head))]
        return [*self.headers, *framing, *_episode_headers(asked)], b"".join([head, *tensors])

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, rows: int) -> Answer:
        """Reads the response to `request`; if that says 504 (too late), returns the fallback.

        Raises:
            ServerError: the server refused or failed; `code` is its error code.
        """
        if status != 200:
            if status == 504:
                return self.fallback(rows)
            self.document(status, body, self.path)
        try:
            return self._read(dict((name.lower(), value) for name, value in headers), body, rows)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ServerError(f"{self.url}{self.path}: not a policy server's response: {error!r}") from error

    def _read(self, headers: dict[bytes, bytes], body: bytes, rows: int) -> Answer:
        at = int(headers[_JSON_BYTES])
        document = msgspec.json.decode(body[:at])
        tensors: dict[str, NDArray[np.float32]] = {}
        state: bytes | None = None
        for output in document["outputs"]:
            shape = tuple(output["shape"])
            if shape[0] != rows:
                raise ValueError(f"{shape[0]} actions for {rows} observations")
            if output["name"] == STATE:
                state = _first_of_bytes(body, at)
                at += int(output["parameters"]["binary_data_size"])
                continue
            tensors[output["name"]] = np.frombuffer(body, "<f4", math.prod(shape), at).reshape(shape)
            at += tensors[output["name"]].nbytes
        names = self.card.action.control_names
        control = np.stack([tensors[name] for name in names], axis=1)
        if not ((control >= self._low) & (control <= self._high)).all():  # nor is a NaN inside
            raise ValueError(f"an action is outside the bounds of {', '.join(names)}")
        if self._chosen and (control[:, self._chosen] != np.rint(control[:, self._chosen])).any():
            raise ValueError("a choice is not a whole number")
        distribution = {k.removeprefix("distribution."): v for k, v in tensors.items() if k.startswith("distribution.")}
        if state is None and self.card.states:
            raise KeyError(STATE)
        self.version, self.digest = str(document["model_version"]), str(document["parameters"]["digest"])
        self.card = self._cards.get(self.digest, self.card)
        actions = Actions(control, tensors["raw"], distribution, document["parameters"].get("seed"), names=names)
        return Answer(actions, state, self.digest)

    def fallback(self, rows: int) -> Answer:
        """The card's fallback: what a car does when no response comes in time."""
        return Answer(fallback_actions(self.card.action, rows), None, "")


def _episode_headers(asked: Request) -> Headers:
    """What names the episode and its version.

    Headers, not the JSON: the server then knows the episode, and sends its id back, even where it can't read the body,
    and the JSON of all episodes stays one text, which it caches.
    """
    headers = [(b"X-Episode-Id", asked.episode_id.encode())] if asked.episode_id else []
    if asked.question.digest is not None:
        headers.append((b"X-Episode-Digest", asked.question.digest.encode()))
    return headers


def _input(name: str, shape: tuple[int, ...], datatype: str, data: bytes) -> dict[str, Any]:
    """The head of a tensor whose bytes follow the JSON."""
    size = {"binary_data_size": len(data)}
    return {"name": name, "shape": list(shape), "datatype": datatype, "parameters": size}


def _bytes_tensor(value: bytes) -> bytes:
    """One element of a BYTES tensor in binary: its length as uint32, little-endian, then itself."""
    return struct.pack("<I", len(value)) + value


def _first_of_bytes(body: bytes, at: int) -> bytes:
    (length,) = struct.unpack_from("<I", body, at)
    value = body[at + 4 : at + 4 + length]
    if len(value) < length:
        raise ValueError("the state breaks off")
    return value


def _socket(url: str) -> str | None:
    try:
        return str(socket_path(url)) if is_unix(url) else None
    except ValueError as error:
        raise ServerError(str(error)) from error


def _difference(expected: Card, served: Card) -> str:
    """How two contracts differ, in words."""
    before, after = (card.depended_on()["observation"] for card in (expected, served))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if names:
        return f"has other observations than expected: {', '.join(names)}"
    if list(before) != list(after):
        return "has its observations in another order than expected"
    return "has other actions than expected: compare the action sections of the two cards"
