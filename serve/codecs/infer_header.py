"""Reads the JSON of an Open Inference Protocol request, and checks everything in it except the numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.contract.state_token import STATE
from serve.codecs import strict_json
from serve.codecs.flat_tensors import decode_flat
from serve.codecs.options import check_budget, check_episode_digest, check_episode_id, check_seed
from serve.codecs.tensor_entry import check_input, check_state, object_of
from serve.errors import ApiError
from serve.limits import MAX_ID

PARAMETERS = ("deterministic", "seed", "budget_ms", "episode_id", "episode_digest", "binary_data_output")
"""The parameters of a request."""
STRINGS_A_TENSOR = 8
"""Most strings of one tensor: name, shape, datatype, data and parameters, and the values of some."""


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A requested output, and whether it is sent as bytes after the JSON."""

    name: str
    binary: bool


class Header(msgspec.Struct, frozen=True):
    """The checked JSON of a request, except for the numbers.

    Attributes:
        rows: number of observations.
        binary_bytes: bytes of all tensors after the JSON.
        offsets: for each tensor after the JSON, where its bytes begin, counted from the end of the JSON.
        is_flat: whether the data of every tensor in the JSON is known to be one flat list of floats.
    """

    rows: int
    inputs: dict[str, dict[str, Any]]
    options: dict[str, Any]
    outputs: tuple[Wanted, ...]
    id: str | None
    binary_bytes: int
    offsets: dict[str, int]
    is_flat: bool


class HeaderReader:
    """Reads the JSON of requests for one card."""

    def __init__(
        self,
        specs: ObservationSpec,
        outputs: Collection[str],
        answered: Collection[str],
        max_rows: int,
        remembers: bool = False,
    ) -> None:
        """Prepares the checks.

        Args:
            specs: of the observations.
            outputs: what can be asked for.
            answered: the outputs of a request that names none.
            max_rows: most observations of a request.
            remembers: whether the policy has a memory.
        """
        self._specs = {spec.name: spec for spec in specs}
        self._outputs, self._answered, self._max_rows = outputs, answered, max_rows
        self._remembers = remembers
        self._most_strings = STRINGS_A_TENSOR * (len(specs) + len(outputs) + 2) + max_rows * remembers

    def read(self, data: bytes) -> Header:
        """Reads and checks the JSON; raises ApiError, bad_json or bad_request."""
        flat = decode_flat(data, self._most_strings)
        given = strict_json.decode(data, self._most_strings) if flat is None else flat
        document = object_of(given, "", ("id", "parameters", "inputs", "outputs"))
        identity = document.get("id")
        if identity is not None and (not isinstance(identity, str) or len(identity) > MAX_ID):
            raise ApiError("bad_request", f"expected a string of at most {MAX_ID} characters", "id")
        parameters = object_of(document.get("parameters", {}), "parameters", PARAMETERS)
        binary = _flag(parameters, "parameters.binary_data_output", False)
        seed, deterministic = parameters.get("seed"), _flag(parameters, "parameters.deterministic", True)
        check_seed(seed, "parameters.seed")
        budget = check_budget(parameters.get("budget_ms"), "parameters.budget_ms")
        episode_id = check_episode_id(parameters.get("episode_id"), "parameters.episode_id")
        began_by = check_episode_digest(parameters.get("episode_digest"), "parameters.episode_digest")
        options = {"deterministic": deterministic, "seed": seed, "budget_ms": budget}
        options |= {"episode_id": episode_id, "episode_digest": began_by}
        inputs = self._read_inputs(document.get("inputs"))
        rows = next(iter(inputs.values()))["shape"][0]
        offsets, at = {}, 0
        for name, entry in inputs.items():
            if "data" not in entry:
                offsets[name] = at
                at += entry["parameters"]["binary_data_size"]
        outputs = self._read_outputs(document, binary)
        return Header(rows, inputs, options, outputs, identity, at, offsets, flat is not None)

    def _read_inputs(self, given: Any) -> dict[str, dict[str, Any]]:
        inputs: dict[str, dict[str, Any]] = {}
        for index, entry in enumerate(_list(given, "inputs", len(self._specs) + self._remembers)):
            where = f"inputs[{index}]"
            object_of(entry, where, ("name", "shape", "datatype", "parameters", "data"))
            if self._remembers and entry.get("name") == STATE and STATE not in inputs:
                check_state(entry, self._max_rows, where)
                inputs[STATE] = entry
                continue
            spec = self._specs.get(entry.get("name") if isinstance(entry.get("name"), str) else "")
            if spec is None or spec.name in inputs:
                raise ApiError(
                    "bad_request", f"expected the name to be one of {', '.join(self._specs)}, each once", where
                )
            check_input(spec, entry, self._max_rows, where)
            inputs[spec.name] = entry
        missing = [name for name in self._specs if name not in inputs]
        if missing:
            raise ApiError("bad_request", f"{missing[0]} is missing", "inputs")
        if len({entry["shape"][0] for entry in inputs.values()}) != 1:
            raise ApiError("bad_request", "the tensors differ in their first axis", "inputs")
        return inputs

    def _read_outputs(self, document: dict[str, Any], binary: bool) -> tuple[Wanted, ...]:
        if "outputs" not in document:
            return tuple(Wanted(name, binary) for name in self._answered)
        found: dict[str, Wanted] = {}
        for index, entry in enumerate(_list(document["outputs"], "outputs", len(self._outputs))):
            where = f"outputs[{index}]"
            name = object_of(entry, where, ("name", "parameters")).get("name")
            if not isinstance(name, str) or name not in self._outputs or name in found:
                raise ApiError(
                    "bad_request",
                    f"expected the name to be one of {', '.join(self._outputs)}, each at most once",
                    where,
                )
            parameters = object_of(entry.get("parameters", {}), f"{where}.parameters", ("binary_data",))
            found[name] = Wanted(name, _flag(parameters, f"{where}.parameters.binary_data", binary))
        return tuple(found.values())


def _list(value: Any, where: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ApiError("bad_request", f"expected a list of 1 to {most} entries", where)
    return value


def _flag(parameters: dict[str, Any], where: str, default: bool) -> bool:
    value = parameters.get(where.rpartition(".")[2])
    if not isinstance(value, bool | None):
        raise ApiError("bad_request", "expected true or false", where)
    return default if value is None else value
