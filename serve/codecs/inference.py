"""POST /v2/models/…/infer: the Open Inference Protocol, with tensors as JSON or as bytes after it."""

from __future__ import annotations

import functools
import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.actions import Actions
from carla_mlflow.array_spec import ArraySpec
from carla_mlflow.card_sections import Card
from carla_mlflow.control import CONTROL_NAMES
from carla_mlflow.errors import SpecError
from carla_mlflow.observations import cast
from serve.codecs import strict_json
from serve.codecs.carla import PredictRequest, check_seed
from serve.errors import ApiError

DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
LONGEST_KNOWN = 4096
"""Bytes of a JSON header that is remembered: clients send the same one before other tensors."""


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """An output that is asked for."""

    name: str
    binary: bool


class InferRequest(PredictRequest, frozen=True, eq=False, gc=False):
    """A decoded request, and how it wants its answer.

    Attributes:
        id: of the client's, sent back.
        outputs: in order.
    """

    id: str | None = None
    outputs: tuple[Wanted, ...] = ()


class Header(msgspec.Struct, frozen=True):
    """What the JSON of a request says, checked: everything but numbers.

    Attributes:
        rows: observations.
        binary_bytes: of all tensors after the JSON.
        offsets: for each tensor after the JSON, where its bytes begin.
    """

    rows: int
    inputs: dict[str, dict[str, Any]]
    options: dict[str, Any]
    outputs: tuple[Wanted, ...]
    id: str | None
    binary_bytes: int
    offsets: dict[str, int]


class InferenceCodec:
    """Decodes and encodes inference requests for one card."""

    def __init__(self, card: Card, digest: str, max_rows: int) -> None:
        self._specs = {spec.name: spec for spec in card.observation_spec}
        self._card, self._digest, self._max_rows = card, digest, max_rows
        widths = {f"distribution.{name}": width for name, width in card.action.outputs().items() if name != "raw"}
        self.outputs = {**dict.fromkeys(CONTROL_NAMES, 0), "raw": len(card.action.raw), **widths}
        """Columns of each output; 0 for those of one number a row."""
        self._known = functools.lru_cache(maxsize=256)(self._read_header)

    def decode(self, body: bytes, json_bytes: int | None) -> InferRequest:
        """Reads a request; tensors after the JSON are looked at where they lie.

        Args:
            body: whole.
            json_bytes: how many of it are JSON; None for all.

        Raises:
            ApiError: bad_json or bad_request.
            SpecError: a tensor's type or shape does not fit; names it.
        """
        if json_bytes is not None and json_bytes > len(body):
            raise ApiError("bad_request", "is longer than the body", "Inference-Header-Content-Length")
        start = len(body) if json_bytes is None else json_bytes
        read = self._known if json_bytes is not None and start <= LONGEST_KNOWN else self._read_header
        header = read(body[:start])
        if start + header.binary_bytes != len(body):
            raise ApiError("bad_request", "the tensors after the JSON are not as long as it says")
        arrays = {name: self._array(spec, header, body, start) for name, spec in self._specs.items()}
        return InferRequest(arrays, **header.options, id=header.id, outputs=header.outputs)

    def _read_header(self, data: bytes) -> Header:
        document = _object(strict_json.decode(data), "", ("id", "parameters", "inputs", "outputs"))
        identity = document.get("id")
        if identity is not None and (not isinstance(identity, str) or len(identity) > 256):
            raise ApiError("bad_request", "expected a string of at most 256 characters", "id")
        parameters = _object(
            document.get("parameters", {}), "parameters", ("deterministic", "seed", "budget_ms", "binary_data_output")
        )
        binary = _flag(parameters, "binary_data_output", False)
        seed, budget = parameters.get("seed"), parameters.get("budget_ms")
        check_seed(seed, "parameters.seed")
        if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float) or budget < 0):
            raise ApiError("bad_request", "expected a number of milliseconds", "parameters.budget_ms")
        options = {"deterministic": _flag(parameters, "deterministic", True), "seed": seed, "budget_ms": budget}
        inputs = self._read_inputs(document.get("inputs"))
        rows = next(iter(inputs.values()))["shape"][0]
        offsets, at = {}, 0
        for name, entry in inputs.items():
            if "data" not in entry:
                offsets[name] = at
                at += entry["parameters"]["binary_data_size"]
        return Header(rows, inputs, options, self._read_outputs(document, binary), identity, at, offsets)

    def _read_inputs(self, given: Any) -> dict[str, dict[str, Any]]:
        inputs = {}
        for index, entry in enumerate(_list(given, "inputs", len(self._specs))):
            where = f"inputs[{index}]"
            _object(entry, where, ("name", "shape", "datatype", "parameters", "data"))
            spec = self._specs.get(entry.get("name") if isinstance(entry.get("name"), str) else "")
            if spec is None or spec.name in inputs:
                raise ApiError("bad_request", f"expected each of {', '.join(self._specs)} once", where)
            self._check_input(spec, entry, where)
            inputs[spec.name] = entry
        missing = [name for name in self._specs if name not in inputs]
        if missing:
            raise ApiError("bad_request", f"{missing[0]} is missing", "inputs")
        if len({entry["shape"][0] for entry in inputs.values()}) != 1:
            raise ApiError("bad_request", "the tensors differ in their first axis", "inputs")
        return inputs

    def _check_input(self, spec: ArraySpec, entry: dict[str, Any], where: str) -> None:
        if entry.get("datatype") != DATATYPES[spec.dtype]:
            raise ApiError("bad_request", f"expected {DATATYPES[spec.dtype]}", f"{where}.datatype")
        shape: Any = entry.get("shape")
        whole = isinstance(shape, list) and shape and all(type(size) is int for size in shape)
        if not whole or shape[1:] not in ([list(spec.shape)] if spec.shape else [[], [1]]):
            raise ApiError("bad_request", f"expected [B{''.join(f', {n}' for n in spec.shape)}]", f"{where}.shape")
        if not 1 <= shape[0] <= self._max_rows:
            raise ApiError("bad_request", f"expected 1 to {self._max_rows} observations", f"{where}.shape")
        parameters = _object(entry.get("parameters", {}), f"{where}.parameters", ("binary_data_size",))
        size = parameters.get("binary_data_size")
        if ("data" in entry) == (size is not None):
            raise ApiError("bad_request", "expected either data or binary_data_size", where)
        expected = math.prod(shape) * np.dtype(spec.dtype).itemsize
        if size is not None and (type(size) is not int or size != expected):
            raise ApiError("bad_request", f"expected {expected}", f"{where}.parameters.binary_data_size")

    def _read_outputs(self, document: dict[str, Any], binary: bool) -> tuple[Wanted, ...]:
        if "outputs" not in document:
            return tuple(Wanted(name, binary) for name in CONTROL_NAMES)
        found: dict[str, Wanted] = {}
        for index, entry in enumerate(_list(document["outputs"], "outputs", len(self.outputs))):
            where = f"outputs[{index}]"
            name = _object(entry, where, ("name", "parameters")).get("name")
            if not isinstance(name, str) or name not in self.outputs or name in found:
                raise ApiError("bad_request", f"expected each of {', '.join(self.outputs)} at most once", where)
            parameters = _object(entry.get("parameters", {}), f"{where}.parameters", ("binary_data",))
            found[name] = Wanted(name, _flag(parameters, "binary_data", binary))
        return tuple(found.values())

    def _array(self, spec: ArraySpec, header: Header, body: bytes, start: int) -> NDArray[Any]:
        shape = (header.rows, *spec.shape)
        at = header.offsets.get(spec.name)
        if at is not None:
            dtype = np.dtype(spec.dtype).newbyteorder("<")
            return np.frombuffer(body, dtype, math.prod(shape), start + at).reshape(shape)
        entry = header.inputs[spec.name]
        return cast(spec, _numbers(entry["data"], entry["shape"], spec.name).reshape(shape))

    def encode(self, request: InferRequest, actions: Actions) -> tuple[bytes, int | None]:
        """Writes an answer, and says how many bytes of it are JSON when tensors follow."""
        outputs, tensors = [], []
        for wanted in request.outputs:
            values = self._output(wanted.name, actions)
            entry: dict[str, Any] = {"name": wanted.name, "datatype": "FP32", "shape": list(values.shape)}
            if wanted.binary:
                tensors.append(values.astype("<f4").tobytes())
                entry["parameters"] = {"binary_data_size": len(tensors[-1])}
            else:
                entry["data"] = values.ravel().tolist()
            outputs.append(entry)
        parameters = {"digest": self._digest, "deterministic": request.deterministic}
        if actions.seed is not None:
            parameters["seed"] = actions.seed
        named = {"model_name": self._card.name, "model_version": self._card.version}
        identity = {} if request.id is None else {"id": request.id}
        head = msgspec.json.encode({**named, **identity, "parameters": parameters, "outputs": outputs})
        return b"".join([head, *tensors]), len(head) if tensors else None

    def _output(self, name: str, actions: Actions) -> NDArray[np.float32]:
        if name == "raw":
            return actions.raw
        if name in CONTROL_NAMES:
            return actions.control[:, CONTROL_NAMES.index(name)]
        return actions.distribution[name.removeprefix("distribution.")]


def _numbers(data: Any, shape: list[int], name: str) -> NDArray[np.float64]:
    """Flat or nested lists → float64, flat."""
    if not isinstance(data, list):
        raise SpecError(f"observations.{name}", "expected a list of numbers")
    flat = _flatten([data], shape, name) if data and isinstance(data[0], list) else data
    if len(flat) != math.prod(shape):
        raise SpecError(f"observations.{name}", f"expected {math.prod(shape)} numbers, got {len(flat)}")
    if not set(map(type, flat)) <= {int, float}:
        raise SpecError(f"observations.{name}", "expected numbers only")
    try:
        return np.array(flat, dtype=np.float64)
    except OverflowError as error:
        raise SpecError(f"observations.{name}", "holds a number that is too large") from error


def _flatten(level: list[Any], shape: list[int], name: str) -> list[Any]:
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            raise SpecError(f"observations.{name}", f"expected lists of shape {shape}")
        level = [element for part in level for element in part]
    return level


def _object(value: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(names):
        raise ApiError("bad_request", f"expected an object with {', '.join(names)} at most", where or None)
    return value


def _list(value: Any, where: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ApiError("bad_request", f"expected a list of 1 to {most}", where)
    return value


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise ApiError("bad_request", "expected true or false", f"parameters.{name}")
    return value
