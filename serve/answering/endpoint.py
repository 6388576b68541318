"""The endpoints for predictions: how each decodes, encodes and reports errors. Shared by both worker classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from serve.answering.forward import BatchSlice
from serve.codecs.carla import PredictRequest
from serve.codecs.inference import InferRequest
from serve.codecs.options import Body, check_size
from serve.errors import ApiError
from serve.limits import OTHER_BODY_BYTES
from serve.policy.selection import ACTIVE, Selection
from serve.policy.serving import Serving

JSON, CSV, BINARY = "application/json", "text/csv", "application/octet-stream"


class EncodedRequest(msgspec.Struct, frozen=True, gc=False):
    """The body of a request, and what its head says about it.

    Attributes:
        body: as received, or decompressed.
        media_type: in lower case, without parameters.
        json_bytes: how many bytes of the body are JSON, if tensors follow; None if the head does not say.
        gzip_limit: the most bytes of the body once it is decompressed; None where it is not compressed.
        episode_id: that the header names, if any.
        asked: which policy the head asks for.
    """

    body: Body
    media_type: str
    json_bytes: int | None = None
    gzip_limit: int | None = None
    episode_id: str | None = None
    asked: Selection = ACTIVE


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The body of a response.

    Attributes:
        body: as sent.
        media_type: of the body.
        json_bytes: how many bytes of the body are JSON, if tensors follow.
    """

    body: bytes
    media_type: str = JSON
    json_bytes: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """One protocol.

    Attributes:
        route: its name in metrics.
        media_types: that it accepts.
        decode: raises ApiError or SpecError.
        encode: its last argument is the JSON object of timings.
        explain: builds the body of an error, given a request id.
    """

    route: str
    media_types: tuple[str, ...]
    decode: Callable[[Serving, EncodedRequest], PredictRequest]
    encode: Callable[[Serving, PredictRequest, BatchSlice, bytes], Answer]
    explain: Callable[[ApiError, str], dict[str, Any]]


def explainer(path: str) -> Callable[[ApiError, str], dict[str, Any]]:
    """Returns what builds the error bodies for a path, known or unknown."""
    if path == INVOCATIONS.route:
        return ApiError.mlflow_body
    return ApiError.inference_body if path == "/v2" or path.startswith("/v2/") else ApiError.body


def body_limit(servings: Iterable[Serving], endpoint: Endpoint | None, most: int) -> int:
    """Returns the most bytes of a body, compressed or not, that a request can need.

    Args:
        servings: the policies that may answer it.
        endpoint: None for what is not a prediction.
        most: the configured limit.
    """
    if endpoint is None:
        return min(most, OTHER_BODY_BYTES)
    return min(most, max((_most_bytes(serving, endpoint.route) for serving in servings), default=most))


def _most_bytes(serving: Serving, route: str) -> int:
    return serving.inference.most_bytes if route == INFERENCE.route else serving.predict.most_bytes


def _decode_predict(serving: Serving, encoded: EncodedRequest) -> PredictRequest:
    check_size(encoded.body, serving.predict.most_bytes)
    return serving.predict.decode(bytes(encoded.body))


def _encode_predict(serving: Serving, request: PredictRequest, answered: BatchSlice, timing_ms: bytes) -> Answer:
    actions = None if request.deterministic and not request.details else answered.actions
    return Answer(serving.predict.encode(answered.objects(serving.predict.rows), request, actions, timing_ms))


def _decode_invocations(serving: Serving, encoded: EncodedRequest) -> PredictRequest:
    check_size(encoded.body, serving.predict.most_bytes)
    return (serving.scoring.decode_csv if encoded.media_type == CSV else serving.scoring.decode_json)(
        bytes(encoded.body)
    )


def _encode_invocations(serving: Serving, _: PredictRequest, answered: BatchSlice, __: bytes) -> Answer:
    return Answer(serving.scoring.encode(answered.objects(serving.scoring.rows)))


def _decode_inference(serving: Serving, encoded: EncodedRequest) -> PredictRequest:
    if encoded.media_type == BINARY and encoded.json_bytes is None:
        raise ApiError("bad_request", "is required with binary tensors", "Inference-Header-Content-Length")
    request = serving.inference.decode(encoded.body, encoded.json_bytes)
    if request.episode_id is not None and encoded.episode_id not in (None, request.episode_id):
        raise ApiError("bad_request", "names another episode than the header X-Episode-Id", "parameters.episode_id")
    if request.episode_digest is not None and encoded.asked.digest not in (None, request.episode_digest):
        text = "names another version than the header X-Episode-Digest"
        raise ApiError("bad_request", text, "parameters.episode_digest")
    return request


def _encode_inference(serving: Serving, request: PredictRequest, answered: BatchSlice, _: bytes) -> Answer:
    assert isinstance(request, InferRequest)
    body, json_bytes = serving.inference.encode(request, answered.actions, answered.tokens)
    return Answer(body, JSON if json_bytes is None else BINARY, json_bytes)


INFERENCE = Endpoint(
    "/v2/models/{name}/infer", (JSON, BINARY, ""), _decode_inference, _encode_inference, ApiError.inference_body
)
"""A missing media type means JSON: the protocol does not require one, and tritonclient sends none with JSON."""
PREDICT = Endpoint("/predict", (JSON,), _decode_predict, _encode_predict, ApiError.body)
INVOCATIONS = Endpoint("/invocations", (JSON, CSV), _decode_invocations, _encode_invocations, ApiError.mlflow_body)

PREDICTION_ROUTES = (PREDICT.route, INVOCATIONS.route, INFERENCE.route)
"""Names in metrics."""
