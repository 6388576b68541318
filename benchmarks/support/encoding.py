"""Observations as requests to a server's endpoints, and its responses as actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.support.requests import http_request
from carla_mlflow.contract.control_kinds import CONTROL_NAMES
from carla_mlflow.contract.state_token import to_text

Arrays = dict[str, NDArray[Any]]
"""Observations by name, (B, …) each."""
DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


def rows_of(batch: Arrays) -> list[dict[str, Any]]:
    """Named arrays, (B, …) each → B observations as JSON objects."""
    return [dict(zip(batch, row, strict=True)) for row in zip(*(each.tolist() for each in batch.values()), strict=True)]


def predict_request(batch: Arrays, tokens: Sequence[bytes] = ()) -> bytes:
    """A whole request of /predict; a float32 is written as its shortest decimal. `tokens`: each row's state, if any."""
    short = {name: [_short(value) for value in array] for name, array in batch.items()}
    if tokens:
        short["state"] = [to_text(token) for token in tokens]
    observations = [dict(zip(short, row, strict=True)) for row in zip(*short.values(), strict=True)]
    return http_request("/predict", msgspec.json.encode({"observations": observations}), "application/json")


def _short(value: Any) -> Any:
    return [float(str(v)) for v in value] if np.ndim(value) else float(str(value))


def infer_path(policy: str) -> str:
    """Where a policy's /v2 inference is."""
    return f"/v2/models/{policy}/infer"


def infer_request(policy: str, batch: Arrays, tokens: Sequence[bytes] = ()) -> bytes:
    """A whole request of /v2 with binary tensors both ways. `tokens`: each row's state, if any."""
    body, header = to_v2(batch, tokens)
    headers = {"Inference-Header-Content-Length": str(header)}
    return http_request(infer_path(policy), body, "application/octet-stream", **headers)


def to_v2(batch: Arrays, tokens: Sequence[bytes] = ()) -> tuple[bytes, int]:
    """The body of a /v2 inference with binary tensors both ways, and the length of its JSON header in bytes."""
    inputs = [(name, DATATYPES[str(array.dtype)], array.shape, array.tobytes()) for name, array in batch.items()]
    names: tuple[str, ...] = CONTROL_NAMES
    if tokens:  # a BYTES element is its length, uint32, and itself
        data = b"".join(len(token).to_bytes(4, "little") + token for token in tokens)
        inputs.append(("state", "BYTES", (len(tokens),), data))
        names = (*names, "state")
    heads = [
        {"name": name, "shape": list(shape), "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for name, kind, shape, data in inputs
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in names]
    header = msgspec.json.encode({"inputs": heads, "outputs": outputs})
    return header + b"".join(data for *_, data in inputs), len(header)


def controls(actions: list[dict[str, Any]]) -> NDArray[np.float32]:
    """The actions of a JSON response → (B, 3): throttle, brake, steer."""
    return np.array([[row["throttle"], row["brake"], row["steer"]] for row in actions], dtype=np.float32)


def from_json(body: bytes) -> NDArray[np.float32]:
    """A response of /predict → (B, 3): throttle, brake, steer."""
    return controls(msgspec.json.decode(body)["actions"])


def from_v2(body: bytes, header_length: int) -> NDArray[np.float32]:
    """A response of /v2 with binary outputs → (B, 3): throttle, brake, steer."""
    outputs = msgspec.json.decode(body[:header_length])["outputs"]
    columns, place = {}, header_length
    for output in outputs:
        size = output["parameters"]["binary_data_size"]
        if output["name"] in CONTROL_NAMES:
            columns[output["name"]] = np.frombuffer(body[place : place + size], dtype="<f4").reshape(-1)
        place += size
    return np.stack([columns[name] for name in CONTROL_NAMES], axis=1)
