"""The part of the OpenAPI document that describes the Open Inference Protocol."""

from __future__ import annotations

import math

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.state_token import STATE
from carla_mlflow.inference.sampling import MAX_SEED
from serve.codecs.request_type import number_limits
from serve.codecs.tensor_entry import BYTES, DATATYPES
from serve.errors import Code
from serve.settings import Settings
from serve.web.openapi_shapes import (
    BEGAN_BY,
    EPISODE,
    REQUEST_HEADERS,
    Json,
    array_of,
    asked_of,
    body,
    fields,
    json_content,
    operation,
    ref,
)

_PARAMETERS: Json = {
    "deterministic": {"type": ["boolean", "null"]},
    "seed": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_SEED},
    "budget_ms": {"type": ["number", "null"], "minimum": 0, "description": "as the header X-Request-Budget-Ms"},
    "episode_id": {
        **EPISODE,
        "type": ["string", "null"],
        "description": "as the header X-Episode-Id, which may not name another; sent back",
    },
    "episode_digest": {
        **BEGAN_BY,
        "type": ["string", "null"],
        "description": "as the header X-Episode-Digest, which may not name another",
    },
}
"""Of a request, but for `binary_data_output`: what is described here is JSON without tensors after it."""

_STATE: Json = fields(
    {
        "name": {"const": STATE},
        "datatype": {"const": BYTES},
        "shape": {"const": [1]},
        "data": array_of({"type": "string", "contentEncoding": "base64"}, 1, 1),
    },
    "name", "datatype", "shape", "data",
)  # fmt: skip
"""The tensor of state tokens; left out, or with an empty text in the place of a token: the episode begins."""


def inference_schemas(card: Card, settings: Settings) -> Json:
    """The schemas of requests and responses with tensors as JSON."""
    specs = card.observation_spec
    tensors = [_tensor(spec) for spec in specs]
    example = [
        {"name": spec.name, "shape": [1, *spec.shape], "datatype": DATATYPES[spec.dtype],
         "data": spec.generate_value().ravel().tolist()}
        for spec in specs
    ]  # fmt: skip
    tensors += [_STATE] if card.states else []
    inputs = {"type": "array", "prefixItems": tensors, "minItems": len(specs), "maxItems": len(tensors)}
    identity = {"type": "string", "maxLength": 256}
    infer = fields({"id": identity, "parameters": fields(_PARAMETERS), "inputs": inputs}, "inputs")
    output = {
        "name": {"type": "string"},
        "datatype": {"enum": ["FP32", BYTES] if card.states else ["FP32"]},
        "shape": array_of({"type": "integer"}),
    }
    values = array_of({"type": ["number", "string"] if card.states else "number"})
    answer = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": array_of(fields({**output, "data": values}, "name", "datatype", "shape")),
    }
    error = {name: {"type": "string"} for name in ("error", "code", "request_id")}
    description = f"one observation of many, up to {settings.max_batch}; tensors may follow as bytes instead"
    return {
        "InferRequest": {**infer, "examples": [{"inputs": example}], "description": description},
        "InferResponse": fields(answer, "model_name", "model_version", "outputs"),
        "InferError": fields({**error, "fallback": ref("Action")}, "error", "code", "request_id"),
    }


def _tensor(spec: ArraySpec) -> Json:
    size = math.prod(spec.shape)
    number = {"type": "number", **number_limits(spec)}
    named = {"name": {"const": spec.name}, "datatype": {"const": DATATYPES[spec.dtype]}}
    properties = {**named, "shape": {"const": [1, *spec.shape]}, "data": array_of(number, size, size)}
    return fields(properties, *properties)


def inference_paths(card: Card) -> Json:
    """The paths of the protocol's routes."""
    model = f"/v2/models/{card.name}"
    described = {
        "200": {"description": "as the protocol says", "content": {"application/json": {"schema": {"type": "object"}}}}
    }

    def describe(summary: str, *codes: Code) -> Json:
        return {"get": operation(summary, described, *codes, error="InferError")}

    outputs = ", ".join(card.action.control_names)
    infer = operation(f"{outputs} as tensors", {"200": body("InferResponse")}, *asked_of(card), error="InferError")
    infer |= {"requestBody": json_content("InferRequest"), "parameters": REQUEST_HEADERS}
    return {
        "/v2": describe("the server"),
        "/v2/health/live": describe("whether it is alive"),
        "/v2/health/ready": describe("whether the server is ready", "not_ready"),
        model: describe("inputs and outputs", "not_ready"),
        f"{model}/ready": describe("whether the model is ready", "not_ready"),
        f"{model}/infer": {"post": infer},
    }
