"""POST /v2/models/…/infer: the Open Inference Protocol, with tensors in the JSON or as bytes after it."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.actions import Actions
from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.observations import cast
from carla_mlflow.contract.state_token import STATE
from carla_mlflow.errors import SpecError
from serve.codecs.bytes_tensor import state_output, tokens_of_bytes, tokens_of_json
from serve.codecs.carla import PredictRequest
from serve.codecs.infer_header import Header, HeaderReader, Wanted
from serve.codecs.options import Body, check_size, text_bytes, token_size
from serve.codecs.state_rows import Tokens
from serve.codecs.tensor_entry import LENGTH_BYTES
from serve.errors import ApiError

NUMBERS = {int, float}
FLOAT32 = np.dtype("<f4")
MAX_KNOWN = 4096
"""Most bytes of a JSON header that is cached: clients send the same header with different tensors."""


class InferRequest(PredictRequest, frozen=True, eq=False, gc=False):
    """A decoded request, and the outputs that it asks for.

    Attributes:
        id: the client's id of the request, sent back.
        outputs: the requested outputs, in order.
    """

    id: str | None = None
    outputs: tuple[Wanted, ...] = ()


class InferenceCodec:
    """Decodes and encodes inference requests for one card.

    Attributes:
        outputs: number of columns of each available output of numbers; 0 for those with one number per row.
        remembers: whether the policy has a memory, and so `state` as an input and an output.
        most_bytes: the most bytes of a request, text and tensors together.
    """

    def __init__(self, card: Card, digest: str, max_rows: int) -> None:
        self._specs = {spec.name: spec for spec in card.observation_spec}
        self._dtypes = {spec.name: np.dtype(spec.dtype).newbyteorder("<") for spec in card.observation_spec}
        self._card, self._digest = card, digest
        widths = {f"distribution.{name}": width for name, width in card.action.outputs().items() if name != "raw"}
        self._answered = {name: place for place, name in enumerate(card.action.control_names)}
        self.outputs = {**dict.fromkeys(self._answered, 0), "raw": len(card.action.raw), **widths}
        self._most_text, self.remembers = text_bytes(card, max_rows), bool(card.states)
        row_bytes = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in card.observation_spec)
        state_bytes = LENGTH_BYTES + token_size(card) if self.remembers else 0
        self.most_bytes = self._most_text + max_rows * (row_bytes + state_bytes)
        state = (STATE,) * self.remembers
        available, answered = (*self.outputs, *state), (*card.action.control_names, *state)
        self._read = HeaderReader(card.observation_spec, available, answered, max_rows, self.remembers).read
        self._known = functools.lru_cache(maxsize=256)(self._read)

    def decode(self, body: Body, json_bytes: int | None) -> InferRequest:
        """Decodes a request; tensors after the JSON become views of the body.

        Args:
            body: the whole body; views of a writable body are writable, too.
            json_bytes: how many of its bytes are JSON; None for all.

        Raises:
            ApiError: bad_json or bad_request.
            SpecError: a tensor's type or shape does not fit; names it.
        """
        if json_bytes is not None and json_bytes > len(body):
            raise ApiError("bad_request", "is longer than the body", "Inference-Header-Content-Length")
        start = len(body) if json_bytes is None else json_bytes
        check_size(body[:start], self._most_text)
        text = bytes(body[:start])
        read = self._known if json_bytes is not None and start <= MAX_KNOWN else self._read
        header = read(text)
        if start + header.binary_bytes != len(body):
            given = len(body) - start
            raise ApiError(
                "bad_request", f"expected {header.binary_bytes} bytes of tensors after the JSON, got {given}"
            )
        arrays = {name: self._array(spec, header, body, start) for name, spec in self._specs.items()}
        tokens = self._tokens(header, body, start) if self.remembers else None
        return InferRequest(arrays, **header.options, tokens=tokens, id=header.id, outputs=header.outputs)

    def _tokens(self, header: Header, body: Body, start: int) -> Tokens:
        entry, at = header.inputs.get(STATE), header.offsets.get(STATE)
        if entry is None:
            return [None] * header.rows
        if at is None:
            return tokens_of_json(entry["data"], header.rows)
        begin = start + at
        return tokens_of_bytes(body[begin : begin + entry["parameters"]["binary_data_size"]], header.rows)

    def _array(self, spec: ArraySpec, header: Header, body: Body, start: int) -> NDArray[Any]:
        at = header.offsets.get(spec.name)
        if at is not None:
            return np.ndarray((header.rows, *spec.shape), self._dtypes[spec.name], body, start + at)
        data, shape = header.inputs[spec.name]["data"], (header.rows, *spec.shape)
        if header.is_flat and spec.dtype == "float32" and len(data) == math.prod(shape):
            try:
                return np.frombuffer(struct.pack(f"{len(data)}f", *data), np.float32).reshape(shape)
            except OverflowError:  # a number too large for float32, of which `cast` makes an infinity
                pass
        return cast(spec, _numbers(data, header.inputs[spec.name]["shape"], spec.name).reshape(shape))

    def encode(self, request: InferRequest, actions: Actions, tokens: Sequence[bytes] = ()) -> tuple[bytes, int | None]:
        """Encodes a response, with the state tokens of a policy with memory.

        Also returns how many of its bytes are JSON, or None if no tensors follow.
        """
        outputs: list[dict[str, Any]] = []
        tensors: list[bytes] = []
        for wanted in request.outputs:
            if wanted.name == STATE and self.remembers:
                described, data = state_output(tokens, wanted.binary)
                outputs.append(described)
                tensors += [data] * wanted.binary
                continue
            values = self._output(wanted.name, actions)
            entry: dict[str, Any] = {"name": wanted.name, "datatype": "FP32", "shape": list(values.shape)}
            if wanted.binary:
                tensors.append(values.astype(FLOAT32, copy=False).tobytes())
                entry["parameters"] = {"binary_data_size": len(tensors[-1])}
            else:
                entry["data"] = values.ravel().tolist()
            outputs.append(entry)
        parameters = {"digest": self._digest, "deterministic": request.deterministic}
        if actions.seed is not None:
            parameters["seed"] = actions.seed
        if request.episode_id is not None:
            parameters["episode_id"] = request.episode_id
        named = {"model_name": self._card.name, "model_version": self._card.version}
        identity = {} if request.id is None else {"id": request.id}
        head = msgspec.json.encode({**named, **identity, "parameters": parameters, "outputs": outputs})
        return b"".join([head, *tensors]), len(head) if tensors else None

    def _output(self, name: str, actions: Actions) -> NDArray[np.float32]:
        if name == "raw":
            return actions.raw
        if name in self._answered:
            return actions.control[:, self._answered[name]]
        return actions.distribution[name.removeprefix("distribution.")]


def _numbers(data: Any, shape: list[int], name: str) -> NDArray[np.float64]:
    """Flat or nested lists → a flat float64 array."""
    if not isinstance(data, list):
        raise SpecError(f"observations.{name}", "expected a list of numbers")
    flat = _flatten([data], shape, name) if data and isinstance(data[0], list) else data
    if len(flat) != math.prod(shape):
        raise SpecError(f"observations.{name}", f"expected {math.prod(shape)} numbers, got {len(flat)}")
    if not set(map(type, flat)) <= NUMBERS:
        raise _explain(flat, shape, name, lambda value: type(value) not in NUMBERS, "expected a number")
    try:
        return np.array(flat, dtype=np.float64)
    except OverflowError as error:  # JSON integers are unbounded
        raise _explain(flat, shape, name, lambda value: abs(value) > 2**1023, "is too large for a number") from error


def _explain(flat: list[Any], shape: list[int], name: str, wrong: Callable[[Any], bool], text: str) -> SpecError:
    at = next(index for index, value in enumerate(flat) if wrong(value))
    row, *place = (int(index) for index in np.unravel_index(at, shape))
    where = "".join(f"[{index}]" for index in place)
    return SpecError(f"observations[{row}].{name}{where}", text)


def _flatten(level: list[Any], shape: list[int], name: str) -> list[Any]:
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            raise SpecError(f"observations.{name}", f"expected lists of shape {shape}")
        level = [element for part in level for element in part]
    return level
