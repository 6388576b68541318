"""A client for agents on Python 3.7 and 3.8, which can't import carla-mlflow: copy this one file beside the agent.

    client = ThinClient("http://127.0.0.1:8080", budget_ms=50)
    client.start_episode()                                   # at the start of each route
    throttle, steer, brake = client.act({"speed": 4.2, "steering": 0.0, "sensors": beams})
    control = carla.VehicleControl(throttle, steer, brake)

It needs nothing but the standard library of Python 3.7 or later, asks one observation at a time in the deterministic
mode, and sends the same bytes as carla_mlflow's PolicyClient. https is not supported. Call `act` at every tick of the
policy (`tick_hz` times a second): the client keeps what the policy needs from one tick to the next.
"""

from __future__ import annotations

import array
import collections
import json
import math
import operator
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
STATE = "state"
STAND_IN_S = 5.0
"""How long another version's card is used for one that answered before /metadata tells its own, seconds."""
DATATYPES = {"float32": ("FP32", "f", 4), "uint8": ("UINT8", "B", 1)}
BEGINS_ANEW = ("state_of_another_key", "state_of_another_version", "episode_of_another_version")
"""Error codes of a server that no longer has what answered the episode so far."""
STATE_REFUSED = "state_refused"
"""Why an episode begins anew whose memory no server takes: it was damaged, or has a form that is not known."""
MAX_IN_VAIN = 3
"""How often an episode begins anew silently although it has not gone on by a step since it last did."""
LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
"""The largest float32, which stands for no bound, as the server has it."""
MAX_HEAD_BYTES = 1 << 16
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error)
"""What reading an answer of another form than a policy server's may raise."""


class ThinClientError(Exception):
    """The server can't be used, or an observation does not fit the card; one line."""


class _Late(Exception):  # noqa: N818
    """No time is left to wait for an answer."""


class _RefusalError(ThinClientError):
    """The server answered with an error, of that code."""

    def __init__(self, text: str, code: Any) -> None:
        super().__init__(text)
        self.code = code


class _OutsideError(ThinClientError):
    """A value of an observation is no finite number, or lies outside the card's bounds."""


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
        error: the same in words. A value outside the card's bounds is told here, too, while an action holds.
        restarts: reason → how often the episode began anew, because no server has its memory or its version any more,
            or (`state_refused`) because its memory was damaged. When it has begun anew three times without a step in
            between, as with servers of different keys behind one address, `act` falls back: `refused`.
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
        self._compared = {self.digest: float("inf")}  # digest → until when its card is known, or another's stands in
        self._texts: dict[int, bytes] = {}
        self._episode = _Episode("", self._known)

    @property
    def names(self) -> tuple[str, ...]:
        return self._known.names

    @property
    def card(self) -> dict[str, Any]:
        """The served policy's card, as the server's /metadata has it."""
        return self._known.card

    def start_episode(self, episode_id: str | None = None) -> str:
        """Begins an episode, such as one route of one car; returns its id, which the server's logs carry.

        The policy forgets what it saw before: its memory, and the frames of earlier ticks.

        Args:
            episode_id: 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`; None: a random one.

        Raises:
            ThinClientError: the id is not such a text.
        """
        name = uuid.uuid4().hex if episode_id is None else episode_id
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9._-]{1,64}", name):
            raise ThinClientError("episode_id: expected 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")
        self._episode = _Episode(name, self._known)
        return name

    @property
    def tick_hz(self) -> float:
        """How often `act` is to be called, times a second; the policy decides every `repeat` ticks."""
        return float(self._known.card["action"]["rate_hz"]) * self._known.repeat

    @property
    def restarts(self) -> dict[str, int]:
        return dict(self._episode.restarts)

    def act(self, observation: Mapping[str, Any]) -> tuple[float, ...]:
        """Asks for one action, and waits at most `budget_ms` for it; or returns the one that still holds.

        What is lost changes nothing: after a late answer the next call sends the memory of the last one that came.

        Args:
            observation: every field of the card, each as bytes (little-endian, C order), an array.array, a numpy
                array, or numbers in lists of its shape; without a batch axis. Of a field with `history`, the frame of
                this tick: the first axis divided by the number of ticks.

        Returns:
            (throttle, steer, brake), as `carla.VehicleControl` takes them, or one number for each of `names`: of a
            choice its index. The card's fallback when no action comes in time, whatever the reason: see `fell_back`.

        Raises:
            ThinClientError: a field is missing, unknown, or of another type or shape than the card's.
        """
        ends = time.monotonic() + self._budget_ms / 1e3
        episode = self._episode
        try:
            episode.tick(observation)
        except _OutsideError as error:  # nothing is sent; the frames before count for this tick, too
            if episode.held is None:
                return self._fall_back("refused", str(error))
            self.error = str(error)
        if episode.held is not None:
            return episode.held
        try:
            try:
                return self._ask(ends)
            except _RefusalError as error:
                if not episode.begin_anew(error.code):
                    raise
                return self._ask(ends)
        except _Late:
            return self._fall_back("late", f"no action within {self._budget_ms:g} ms")
        except OSError as error:
            return self._fall_back("unreachable", f"{self.url}: {error}")
        except ThinClientError as error:
            return self._fall_back("refused", str(error))

    def skip(self, observation: Mapping[str, Any] | None = None) -> None:
        """Lets a tick of the policy pass without acting: an action that holds does so for a tick less.

        Args:
            observation: of that tick, as for `act`; None: there is none, so that the frames before count for it, too.

        Raises:
            ThinClientError: as `act`, and at a value outside the card's bounds. The frames before then count.
        """
        self._episode.tick(observation)

    def close(self) -> None:
        """Closes the connection; the next `act` opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> ThinClient:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _ask(self, ends: float) -> tuple[float, ...]:
        path = f"/v2/models/{self._known.name}/infer"
        text, tensors = self._request()
        framing = f"Inference-Header-Content-Length: {len(text)}"
        headers = ["Content-Type: application/octet-stream", framing, *self._episode.headers()]
        status, given, answer = self._send("POST", path, headers, text + tensors, ends)
        if status == 504:
            raise _Late
        if status != 200:
            raise _refusal(self.url, status, answer)
        control: tuple[float, ...]
        control, state, version, digest = _read_action(self.url, self._known, given, answer)
        if time.monotonic() > self._compared.get(digest, 0.0):  # another version drives only with the same contract
            known, _, active = self._metadata(ends)
            if known.contract != self._known.contract:
                return self._fall_back("contract", f"{self.url}: {version} observes or acts otherwise")
            self._known = known
            self._compared[digest] = time.monotonic() + STAND_IN_S  # the active version may be another
            self._compared[active] = float("inf")
        if time.monotonic() >= ends:
            raise _Late
        self._episode.answered(control, state, digest)
        self.version, self.digest, self.fell_back, self.error = version, digest, None, None
        return control

    def _fall_back(self, reason: str, text: str) -> tuple[float, ...]:
        self.fell_back, self.error = reason, text
        return self._known.fallback

    def _request(self) -> tuple[bytes, bytes]:
        """The JSON of a request and its tensors; the JSON stays the same, so that the server reads it once."""
        state = self._episode.state
        element = struct.pack("<I", len(state)) + state if state else b""
        if len(element) not in self._texts:
            self._texts[len(element)] = self._text(len(element))
        return self._texts[len(element)], self._episode.tensors() + element

    def _text(self, state_bytes: int) -> bytes:
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in self._known.outputs]
        parameters = {"deterministic": True, "budget_ms": self._budget_ms}
        inputs = [field.header for field in self._known.fields.values()]
        if state_bytes:
            size = {"binary_data_size": state_bytes}
            inputs.append({"name": STATE, "shape": [1], "datatype": "BYTES", "parameters": size})
        return json.dumps({"parameters": parameters, "inputs": inputs, "outputs": outputs}).encode()

    def _metadata(self, ends: float) -> tuple[_Card, str, str]:
        status, _, body = self._send("GET", "/metadata", [], b"", ends)
        if status != 200:
            raise _refusal(self.url, status, body)
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


class _Episode:
    """What is kept from tick to tick: the frames, the policy's memory, its version, and the action that holds.

    Attributes:
        state: what the latest answer gave to send back, of a policy with a memory; empty where the episode begins.
        held: the action that holds at the latest tick; None where the policy is to be asked.
        restarts: reason → how often it began anew.
    """

    def __init__(self, name: str, known: _Card) -> None:
        self.state = b""
        self.restarts: collections.Counter[str] = collections.Counter()
        self._name, self._known, self._digest = name, known, ""
        self._frames: dict[str, collections.deque[bytes]] = {
            field.name: collections.deque(maxlen=1 - field.ticks[0]) for field in known.fields.values()
        }
        self.held: tuple[float, ...] | None = None
        self._decided: tuple[float, ...] = ()
        self._ticks_left = 0
        self._in_vain = 0

    def tick(self, observation: Mapping[str, Any] | None) -> None:
        """Takes one tick's observation. When there is none, or it is refused, the frames before count for it, too."""
        self.held = self._decided if self._ticks_left else None
        self._ticks_left = max(self._ticks_left - 1, 0)
        frames = {name: kept[-1] for name, kept in self._frames.items() if kept}
        try:
            if observation is not None:
                frames = self._known.encode(observation)
        finally:
            for name, frame in frames.items():
                self._frames[name].append(frame)

    def tensors(self) -> bytes:
        """What the graph takes: of a field with a history, the frames of its ticks, oldest first."""
        return b"".join(field.stack(self._frames[field.name]) for field in self._known.fields.values())

    def headers(self) -> list[str]:
        """What names the episode, and the version that is to go on with it; a memory names its version itself."""
        name = ["X-Episode-Id: " + self._name] if self._name else []
        return name + (["X-Episode-Digest: " + self._digest] if self._digest and not self.state else [])

    def answered(self, control: tuple[float, ...], state: bytes, digest: str) -> None:
        """Takes an answer, whose action holds for the ticks that the card says."""
        if self._digest not in ("", digest) and not state:  # a server that holds no versions for episodes
            self.restarts["episode_of_another_version"] += 1
        elif self._digest:  # it went on
            self._in_vain = 0
        self.state, self._digest, self._decided = state, digest, control
        self._ticks_left = self._known.repeat - 1

    def begin_anew(self, code: Any) -> bool:
        """Forgets memory and version, where a refusal says that they are gone; the frames stay, as they were seen.

        Returns whether to ask once more at this tick: not after MAX_IN_VAIN times without a step in between.
        """
        if code not in (*BEGINS_ANEW, STATE_REFUSED) or not (self.state or self._digest):
            return False
        self.restarts[code] += 1
        self.state, self._digest = b"", ""
        self._in_vain += 1
        return self._in_vain <= MAX_IN_VAIN


class _Card:
    """What the client needs of /metadata; an incomplete card raises one of UNREADABLE.

    Attributes:
        contract: a hash of what an agent depends on: observations and actions, without units and fallback.
        repeat: ticks for which an action holds.
        outputs: the tensors of an answer, in order: what `act` returns, then the memory, if there is one.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        card: dict[str, Any] = metadata["card"]
        self.card, self.name = card, urllib.parse.quote(card["name"], safe="")
        self.fields = {name: _Field(name, field) for name, field in card["observation"].items()}
        self.contract = metadata["contract"]
        if not isinstance(self.contract, str):
            raise TypeError(f"the contract is {self.contract!r}")
        action = card["action"]
        self.repeat = int(action.get("repeat", 1))
        raw = {name: (float(low), float(high)) for name, (low, high) in action["raw"].items()}
        self.names = tuple(raw) if action["control"] == "named" else WITHOUT_PEDALS.get(action["control"], CONTROL)
        self.outputs = [*self.names, STATE] if card.get("state") else [*self.names]
        if action["control"] == "named":
            self._bounds = list(raw.values())
        else:
            self._bounds = [(-1.0 if name in ("steer", "acceleration") else 0.0, 1.0) for name in self.names]
        labels = action.get("choices", {})
        labels = {"choice": labels} if isinstance(labels, list) else labels
        self.fallback = tuple(_number(action["fallback"][name], labels.get(name, [])) for name in self.names)
        if not self.is_possible(self.fallback):
            raise ValueError(f"the fallback is {self.fallback}")

    def encode(self, observation: Mapping[str, Any]) -> dict[str, bytes]:
        """The frame of every field as bytes."""
        for name in observation:
            if name not in self.fields:
                known = ", ".join(self.fields)
                raise ThinClientError(f"observations has an unknown field {name}; the card's are {known}")
        for name in self.fields:
            if name not in observation:
                raise ThinClientError(f"observations.{name}: is missing")
        return {name: field.encode(observation[name]) for name, field in self.fields.items()}

    def is_possible(self, control: tuple[float, ...]) -> bool:
        """Whether every number lies within its bounds; a NaN does not."""
        return all(low <= number <= high for number, (low, high) in zip(control, self._bounds))  # noqa: B905 (no `strict` before 3.10)


class _Field:
    """One field of the card, and how its values become bytes.

    Attributes:
        ticks: of the frames that the graph takes, oldest first; [0] for a field without a history.
    """

    def __init__(self, name: str, field: Mapping[str, Any]) -> None:
        self.name, self.dtype, whole = name, field["dtype"], tuple(field["shape"])
        self.ticks = [int(tick) for tick in field.get("history", [0])]
        self._starts_with_zeros = field.get("history_start") == "zeros"
        self.shape = (whole[0] // len(self.ticks), *whole[1:]) if len(self.ticks) > 1 else whole
        datatype, self._typecode, itemsize = DATATYPES[self.dtype]
        self._shapes = (self.shape, ()) if len(self.ticks) > 1 and self.shape == (1,) else (self.shape,)
        self._size = itemsize
        if len(whole) > 0 and whole[0] % len(self.ticks):
            raise ValueError(f"{name} has the shape {whole} for {len(self.ticks)} ticks")
        for length in self.shape:
            if not isinstance(length, int) or length < 1:
                raise ValueError(f"{name} has the shape {self.shape}")
            self._size *= length
        self._inside = _Bounds(self, whole, field)
        parameters = {"binary_data_size": self._size * len(self.ticks)}
        self.header = {"name": name, "shape": [1, *whole], "datatype": datatype, "parameters": parameters}

    def stack(self, frames: collections.deque[bytes]) -> bytes:
        """The frames of the ticks; in C order, arrays joined along the first axis are their bytes one after another."""
        start = bytes(self._size) if self._starts_with_zeros else frames[0]
        latest = len(frames) - 1
        return b"".join(frames[latest + tick] if latest + tick >= 0 else start for tick in self.ticks)

    def encode(self, value: Any) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
        elif hasattr(value, "dtype") and hasattr(value, "tobytes"):  # numpy's, without importing it
            if str(value.dtype) != self.dtype or tuple(value.shape) not in self._shapes:
                raise self._wrong(f"got {value.dtype} {list(value.shape)}")
            data = value.tobytes()
        elif isinstance(value, array.array):
            if value.typecode != self._typecode:
                raise self._wrong(f"got an array of typecode {value.typecode}")
            data = value.tobytes()
        else:
            try:
                shape = () if () in self._shapes and not hasattr(value, "__len__") else self.shape
                data = array.array(self._typecode, list(self._flat(value, shape))).tobytes()
            except (TypeError, ValueError, OverflowError) as error:
                raise self._wrong(str(error)) from error
        if len(data) != self._size:
            raise self._wrong(f"got {len(data)} bytes, not {self._size}")
        self._inside.check(data)
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


class _Bounds:
    """What the values of one frame of a field have to be, so that no later tick's stack is refused for them."""

    def __init__(self, field: _Field, whole: tuple[int, ...], stated: Mapping[str, Any]) -> None:
        self._field, self._unit = field, stated.get("unit", "1")
        self._is_float = field.dtype == "float32"
        self._are_choices = "choices" in stated
        self._is_whole = self._is_float and self._are_choices
        smallest, largest = (-LARGEST, LARGEST) if self._is_float else (0.0, 255.0)
        self._low = self._of_frame(stated.get("low"), whole, smallest, max)
        self._high = self._of_frame(stated.get("high"), whole, largest, min)
        self._is_full = not self._is_float and (self._low, self._high) == (0.0, 255.0)

    def _of_frame(self, bound: Any, whole: tuple[int, ...], none: float, narrowest: Any) -> Any:
        """One number for all elements, or a list for each of a frame's, inside those of all the ticks it goes through.

        Args:
            bound: the card's: a number, None, or a list for the last axis or, nested, for all axes.
            whole: the shape of the field, with all its ticks.
            none: what stands for None.
            narrowest: of several numbers.
        """
        if not isinstance(bound, list):
            return self._rounded(none if bound is None else bound)
        numbers = [self._rounded(none if each is None else each) for each in _elements(bound, whole)]
        size = len(numbers) // len(self._field.ticks)
        return [narrowest(numbers[place::size]) for place in range(size)]

    def _rounded(self, bound: float) -> float:
        """Bounds are compared as the dtype has them, as the server does."""
        return array.array("f", [bound])[0] if self._is_float else float(bound)

    def check(self, data: bytes) -> None:
        """Raises _OutsideError at a value that is no finite number, outside the bounds, or none of the choices."""
        if self._is_full:
            return
        values: Any = data
        if self._is_float:
            values = array.array("f")
            values.frombytes(data)
        # A sum of float32 numbers in float64 is finite if and only if all of them are.
        is_right = not self._is_float or math.isfinite(sum(values))
        is_right = is_right and self._are_above(self._low, values, min) and self._are_below(self._high, values, max)
        if not is_right or (self._is_whole and not all(map(float.is_integer, values))):
            raise self._outside(values)

    @staticmethod
    def _are_above(low: Any, values: Any, smallest: Any) -> bool:
        return all(map(operator.le, low, values)) if isinstance(low, list) else bool(low <= smallest(values))

    @staticmethod
    def _are_below(high: Any, values: Any, largest: Any) -> bool:
        return all(map(operator.ge, high, values)) if isinstance(high, list) else bool(high >= largest(values))

    def _outside(self, values: Any) -> _OutsideError:
        for place, value in enumerate(values):
            low, high = (each[place] if isinstance(each, list) else each for each in (self._low, self._high))
            is_choice = not self._is_whole or float(value).is_integer()
            if not (math.isfinite(value) and low <= value <= high and is_choice):
                break
        axes: list[str] = []
        for length in reversed(self._field.shape):
            place, axis = divmod(place, length)
            axes.insert(0, f"[{axis}]")
        what = f"is outside [{low:.6g}, {high:.6g}] {self._unit}"
        if not math.isfinite(value):
            what = f"is not a finite {self._field.dtype}"
        elif self._are_choices:
            what = f"is none of its choices, the whole numbers from {low:g} to {high:g}"
        return _OutsideError(f"observations.{self._field.name}{''.join(axes)}: {value:.6g} {what}")


def _elements(bound: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """A list of bounds as one for each element, in C order.

    A flat list is for the last axis, a nested one has a level for each axis; of one element it stands for all.
    """
    if not shape:
        raise ValueError("bounds of more axes than the shape has")
    if any(isinstance(each, list) for each in bound):
        flat = [number for each in bound for number in _elements(each, shape[1:])]
        times, length = shape[0] // len(bound), shape[0]
    else:
        flat, times, length = bound, 1, shape[-1]
        if len(bound) == 1:
            times = length
        for each in shape[:-1]:
            times *= each
    if len(bound) not in (1, length):
        raise ValueError(f"{len(bound)} bounds for {length} elements")
    return flat * times


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


def _read_action(url: str, known: _Card, headers: Mapping[str, str], body: bytes) -> Any:
    """Action, memory, version and digest of an answer."""
    try:
        at = int(headers["inference-header-content-length"])
        document = json.loads(body[:at].decode())
        names = [output["name"] for output in document["outputs"]]
        control = struct.unpack_from(f"<{len(known.names)}f", body, at)
        version, digest = document["model_version"], document["parameters"]["digest"]
        state = b""
        if STATE in known.outputs:  # one element: its length, then itself
            at += 4 * len(known.names)
            (length,) = struct.unpack_from("<I", body, at)
            state = body[at + 4 : at + 4 + length]
            if not length or len(state) != length:
                raise ValueError("the memory breaks off")
    except UNREADABLE as error:
        raise ThinClientError(f"{url}: not a policy server's answer: {error!r}") from error
    if names != known.outputs or not known.is_possible(control):
        raise ThinClientError(f"{url}: the answer holds no usable action")
    return control, state, version, digest


def _refusal(url: str, status: int, body: bytes) -> _RefusalError:
    """The error of an answer in words: ours is an object, the Open Inference Protocol's a text beside its code."""
    try:
        document = json.loads(body.decode())
        error, code = document["error"], document.get("code")
        text = error["message"] if isinstance(error, dict) else error
    except UNREADABLE:
        text, code = "no policy server's answer", None
    if code == "invalid_observation" and re.match(r"observations(\[\d+\])?\.state: ", str(text)):
        code = STATE_REFUSED
    return _RefusalError(f"{url}: status {status}: {text}", code)
