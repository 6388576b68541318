"""A client for agents on Python 3.7 and 3.8, which can't import carla-mlflow: copy this one file beside the agent.

    client = ThinClient("http://127.0.0.1:8080", budget_ms=50)
    client.start_episode()                                   # at the start of each route
    throttle, steer, brake = client.act({"speed": 4.2, "steering": 0.0, "sensors": beams})
    control = carla.VehicleControl(throttle, steer, brake)

It needs nothing but the standard library of Python 3.7 or later, asks one observation at a time in the deterministic
mode, and sends the same bytes as carla_mlflow's PolicyClient. https is not supported.
"""

from __future__ import annotations

import array
import json
import math
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid
from typing import Any, Iterator, Mapping  # noqa: UP035 (collections.abc takes no types before Python 3.9)

CONTROL = ("throttle", "steer", "brake")
WITHOUT_PEDALS = {"acceleration": ("acceleration",), "steer": ("steer",)}
DATATYPES = {"float32": ("FP32", "f", 4), "uint8": ("UINT8", "B", 1)}
MAX_HEAD_BYTES = 1 << 16
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error)
"""What reading an answer of another form than a policy server's may raise."""


class ThinClientError(Exception):
    """The server can't be used, or an observation does not fit the card; one line."""


class _Late(Exception):  # noqa: N818
    """No time is left to wait for an answer."""


class _Lost(Exception):  # noqa: N818
    """The server closed the kept connection before it answered, so that the request may be sent again."""


class ThinClient:
    """Asks one policy server over one kept connection. Not safe to share between threads.

    The fallback is the card's, which the server has. So before a first contact there is none, and the constructor
    raises: let the car brake fully until a later try succeeds.

    Attributes:
        names: what `act` returns: throttle, steer, brake, or what a policy without pedals answers, in the card's order.
        version: semantic version of the policy behind the latest action.
        digest: digest of that policy.
        fell_back: why the latest `act` returned the card's fallback: `late`, `unreachable`, `refused`, or `contract`
            (the server serves a policy that observes or acts otherwise); None when the policy decided.
        error: the same in words.
    """

    def __init__(self, url: str, budget_ms: float = 50.0, api_key: str = "", timeout_s: float = 10.0) -> None:
        """Connects, and fetches the served policy's card.

        Args:
            url: such as `http://127.0.0.1:8080`, or `unix:/run/policy.sock`. A host's name is looked up once, here.
            budget_ms: how long `act` may take, milliseconds; 50 is one tick of a world at 20 Hz.
            api_key: the server's POLICY_API_KEY.
            timeout_s: how long all of that may take, seconds: to look up the name, to connect, and to get the card.

        Raises:
            ThinClientError: no server answers there, or no policy server, or it is not ready; or an argument is wrong.
        """
        if sys.byteorder != "little":
            raise ThinClientError("this file needs a little-endian machine, as x86 and ARM are")
        self.url = url.rstrip("/")
        self._budget_ms = _time("budget_ms", budget_ms)
        ends = time.monotonic() + _time("timeout_s", timeout_s)
        if not re.fullmatch("[!-~]*", api_key):
            raise ThinClientError("api_key: expected visible ASCII characters")
        self._socket: socket.socket | None = None
        self._episode = ""
        self.fell_back: str | None = None
        self.error: str | None = None
        try:
            self._family, self._address, host, self._prefix = _resolve(self.url, ends)
            self._headers = ["Host: " + host] + (["Authorization: Bearer " + api_key] if api_key else [])
            self._known, self.version, self.digest = self._metadata(ends)
        except _Late:
            raise ThinClientError(f"{url}: no answer within {timeout_s:g} s") from None
        except OSError as error:
            raise ThinClientError(f"{url}: no policy server answers: {error}") from error
        except ThinClientError:
            self.close()
            raise
        self._card_digest = self.digest
        self._json = self._request()

    @property
    def names(self) -> tuple[str, ...]:
        return self._known.names

    @property
    def card(self) -> dict[str, Any]:
        """The served policy's card, as the server's /metadata has it."""
        return self._known.card

    def start_episode(self, episode_id: str | None = None) -> str:
        """Begins an episode, such as one route of one car; returns its id, which the server's logs carry.

        Args:
            episode_id: 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`; None: a random one.

        Raises:
            ThinClientError: the id is not such a text.
        """
        name = uuid.uuid4().hex if episode_id is None else episode_id
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9._-]{1,64}", name):
            raise ThinClientError("episode_id: expected 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")
        self._episode = name
        return name

    def act(self, observation: Mapping[str, Any]) -> tuple[float, ...]:
        """Asks for one action, and waits at most `budget_ms` for it.

        Args:
            observation: every field of the card, each as bytes (little-endian, C order), an array.array, a numpy
                array, or numbers in lists of its shape; without a batch axis.

        Returns:
            (throttle, steer, brake), as `carla.VehicleControl` takes them, or one number for each of `names`: of a
            choice its index. The card's fallback when no action comes in time, whatever the reason: see `fell_back`.

        Raises:
            ThinClientError: a field is missing, unknown, or of another type or shape than the card's.
        """
        ends = time.monotonic() + self._budget_ms / 1e3
        body = self._json + b"".join(self._encode(observation))
        try:
            return self._ask(body, ends)
        except _Late:
            return self._fall_back("late", f"no action within {self._budget_ms:g} ms")
        except OSError as error:
            return self._fall_back("unreachable", f"{self.url}: {error}")
        except ThinClientError as error:
            return self._fall_back("refused", str(error))

    def close(self) -> None:
        """Closes the connection; the next `act` opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> ThinClient:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _ask(self, body: bytes, ends: float) -> tuple[float, ...]:
        path = f"/v2/models/{self._known.name}/infer"
        framing = f"Inference-Header-Content-Length: {len(self._json)}"
        headers = ["Content-Type: application/octet-stream", framing]
        if self._episode:
            headers.append("X-Episode-Id: " + self._episode)
        status, given, answer = self._send("POST", path, headers, body, ends)
        if status == 504:
            raise _Late
        if status != 200:
            raise ThinClientError(_refusal(self.url, status, answer))
        control, version, digest = _read_action(self.url, self._known, given, answer)
        if digest != self._card_digest:  # another version is served; it drives only if it has the same contract
            known, _, card_digest = self._metadata(ends)
            if known.contract != self._known.contract:
                return self._fall_back("contract", f"{self.url}: {version} observes or acts otherwise")
            self._known, self._card_digest = known, card_digest
        if time.monotonic() >= ends:
            raise _Late
        self.version, self.digest, self.fell_back, self.error = version, digest, None, None
        return control

    def _fall_back(self, reason: str, text: str) -> tuple[float, ...]:
        self.fell_back, self.error = reason, text
        return self._known.fallback

    def _encode(self, observation: Mapping[str, Any]) -> Iterator[bytes]:
        for name in observation:
            if name not in self._known.fields:
                known = ", ".join(self._known.fields)
                raise ThinClientError(f"observations has an unknown field {name}; the card's are {known}")
        for name, field in self._known.fields.items():
            if name not in observation:
                raise ThinClientError(f"observations.{name}: is missing")
            yield field.encode(observation[name])

    def _request(self) -> bytes:
        """The JSON of every request: it never changes, so that the server reads it once."""
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in self._known.names]
        parameters = {"deterministic": True, "budget_ms": self._budget_ms}
        inputs = [field.header for field in self._known.fields.values()]
        return json.dumps({"parameters": parameters, "inputs": inputs, "outputs": outputs}).encode()

    def _metadata(self, ends: float) -> tuple[_Card, str, str]:
        status, _, body = self._send("GET", "/metadata", [], b"", ends)
        if status != 200:
            raise ThinClientError(_refusal(self.url, status, body))
        try:
            document = json.loads(body.decode())
            return _Card(document), document["version"], document["digest"]
        except UNREADABLE as error:
            raise ThinClientError(f"{self.url}: not a policy server's metadata: {error!r}") from error

    def _send(self, method: str, path: str, headers: list[str], body: bytes, ends: float) -> Any:
        """Status, headers and body of an answer. The connection is kept only after a whole answer."""
        first, last = f"{method} {self._prefix}{path} HTTP/1.1", f"Content-Length: {len(body)}\r\n\r\n"
        head = [first, *self._headers, *headers, last]
        request = "\r\n".join(head).encode() + body
        for is_kept in (True, False) if self._socket is not None else (False,):
            try:
                return self._exchange(request, ends)
            except _Lost:
                self.close()
                if not is_kept:
                    raise ConnectionResetError("the server closed the connection without an answer") from None
            except BaseException:
                self.close()
                raise
        raise AssertionError

    def _exchange(self, request: bytes, ends: float) -> Any:
        try:
            connection = self._connection(ends)
            try:
                connection.settimeout(_left(ends))
                connection.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                raise _Lost from None
            status, given, answer = _receive(connection, ends)
            if given.get("connection", "").lower() == "close":
                self.close()
            return status, given, answer
        except socket.timeout:  # noqa: UP041 (another class than TimeoutError before Python 3.10)
            raise _Late from None

    def _connection(self, ends: float) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(self._family, socket.SOCK_STREAM)
            self._socket.settimeout(_left(ends))
            self._socket.connect(self._address)
            if self._family != getattr(socket, "AF_UNIX", None):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket


class _Card:
    """What the client needs of /metadata; an incomplete card raises one of UNREADABLE.

    Attributes:
        contract: a hash of what an agent depends on: observations and actions, without units and fallback.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        card: dict[str, Any] = metadata["card"]
        self.card, self.name = card, urllib.parse.quote(card["name"], safe="")
        self.fields = {name: _Field(name, field) for name, field in card["observation"].items()}
        self.contract = metadata["contract"]
        if not isinstance(self.contract, str):
            raise TypeError(f"the contract is {self.contract!r}")
        action = card["action"]
        raw = {name: (float(low), float(high)) for name, (low, high) in action["raw"].items()}
        self.names = tuple(raw) if action["control"] == "named" else WITHOUT_PEDALS.get(action["control"], CONTROL)
        if action["control"] == "named":
            self._bounds = list(raw.values())
        else:
            self._bounds = [(-1.0 if name in ("steer", "acceleration") else 0.0, 1.0) for name in self.names]
        labels = action.get("choices", {})
        labels = {"choice": labels} if isinstance(labels, list) else labels
        self.fallback = tuple(_number(action["fallback"][name], labels.get(name, [])) for name in self.names)
        if not self.is_possible(self.fallback):
            raise ValueError(f"the fallback is {self.fallback}")

    def is_possible(self, control: tuple[float, ...]) -> bool:
        """Whether every number lies within its bounds; a NaN does not."""
        return all(low <= number <= high for number, (low, high) in zip(control, self._bounds))  # noqa: B905


class _Field:
    """One field of the card, and how its values become bytes."""

    def __init__(self, name: str, field: Mapping[str, Any]) -> None:
        self.name, self.dtype, self.shape = name, field["dtype"], tuple(field["shape"])
        datatype, self._typecode, itemsize = DATATYPES[self.dtype]
        self._size = itemsize
        for length in self.shape:
            if not isinstance(length, int) or length < 1:
                raise ValueError(f"{name} has the shape {self.shape}")
            self._size *= length
        parameters = {"binary_data_size": self._size}
        shape = [1, *self.shape]
        self.header = {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}

    def encode(self, value: Any) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
        elif hasattr(value, "dtype") and hasattr(value, "tobytes"):  # numpy's, without importing it
            if str(value.dtype) != self.dtype or tuple(value.shape) != self.shape:
                raise self._wrong(f"got {value.dtype} {list(value.shape)}")
            data = value.tobytes()
        elif isinstance(value, array.array):
            if value.typecode != self._typecode:
                raise self._wrong(f"got an array of typecode {value.typecode}")
            data = value.tobytes()
        else:
            try:
                data = array.array(self._typecode, list(self._flat(value, self.shape))).tobytes()
            except (TypeError, ValueError, OverflowError) as error:
                raise self._wrong(str(error)) from error
        if len(data) != self._size:
            raise self._wrong(f"got {len(data)} bytes, not {self._size}")
        return data

    def _flat(self, value: Any, shape: tuple[int, ...]) -> Iterator[Any]:
        if not shape:
            yield value
            return
        if len(value) != shape[0]:
            raise self._wrong(f"got a list of {len(value)}")
        for each in value:
            yield from self._flat(each, shape[1:])

    def _wrong(self, text: str) -> ThinClientError:
        return ThinClientError(f"observations.{self.name}: expected {self.dtype} {list(self.shape)}, {text}")


def _number(value: Any, labels: list[str]) -> float:
    """A value of the fallback; a choice may be named by its label."""
    return float(labels.index(value)) if isinstance(value, str) else float(value)


def _time(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ThinClientError(f"{name}: expected a number of at least 0, got {value!r}")
    return number


def _resolve(url: str, ends: float) -> Any:
    """Family, address, Host and path's beginning of a server."""
    wrong = ThinClientError(f"{url}: expected http://host:port, or unix: and a socket's path")
    if url.startswith("unix:") and "\0" not in url:
        path = url[len("unix:") :]
        return socket.AF_UNIX, "/" + path.lstrip("/") if path.startswith("//") else path, "localhost", ""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:  # a port that is no number, or half an IPv6 address
        raise wrong from None
    if parts.scheme != "http" or not host or not re.fullmatch("[!-~]+", url):
        raise wrong
    family, _, _, _, address = min(_look_up(host, port, ends), key=lambda each: each[0] != socket.AF_INET)
    return family, address, parts.netloc.rpartition("@")[2], parts.path


def _look_up(host: str, port: int, ends: float) -> Any:
    """The host's addresses.

    The system's look-up has no time limit, so it runs in a thread, which is waited for until `ends` only.
    """
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # UnicodeError: no name can be so
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_left(ends))
    if not found:
        raise _Late
    if isinstance(found[0], Exception):
        raise OSError(str(found[0]))
    return found[0]


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise _Late
    return left


def _receive(connection: socket.socket, ends: float) -> Any:
    """One whole answer; `ends` is for all of it, however slowly it comes."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection, ends, bool(received))
        if len(received) > MAX_HEAD_BYTES:
            raise ThinClientError("the answer is not one of a policy server")
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    try:
        status, length = int(lines[0].split()[1]), int(headers["content-length"])
    except (KeyError, IndexError, ValueError):
        raise ThinClientError(f"the answer is not one of a policy server: {lines[0]:.60}") from None
    parts, missing = [body], length - len(body)
    while missing > 0:
        parts.append(_more(connection, ends, True))
        missing -= len(parts[-1])
    return status, headers, b"".join(parts)


def _more(connection: socket.socket, ends: float, has_begun: bool) -> bytes:
    connection.settimeout(_left(ends))
    try:
        data = connection.recv(1 << 16)
    except ConnectionResetError:
        data = b""
    if not data:
        raise ConnectionResetError("the answer breaks off") if has_begun else _Lost
    return data


def _read_action(url: str, known: _Card, headers: Mapping[str, str], body: bytes) -> tuple[tuple[float, ...], str, str]:
    try:
        at = int(headers["inference-header-content-length"])
        document = json.loads(body[:at].decode())
        names = [output["name"] for output in document["outputs"]]
        control = struct.unpack_from(f"<{len(known.names)}f", body, at)
        version, digest = document["model_version"], document["parameters"]["digest"]
    except UNREADABLE as error:
        raise ThinClientError(f"{url}: not a policy server's answer: {error!r}") from error
    if names != list(known.names) or not known.is_possible(control):
        raise ThinClientError(f"{url}: the answer holds no usable action")
    return control, version, digest


def _refusal(url: str, status: int, body: bytes) -> str:
    """The error of an answer in words: ours is an object, the Open Inference Protocol's a text."""
    try:
        error = json.loads(body.decode())["error"]
        text = error["message"] if isinstance(error, dict) else error
    except UNREADABLE:
        text = "no policy server's answer"
    return f"{url}: status {status}: {text}"
