"""GET /openapi.json: the requests and responses of this server, derived from the active policy's card."""

from __future__ import annotations

import msgspec

from carla_mlflow import __version__
from carla_mlflow.contract.answer import AnswerColumn, answer_columns
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.control import scale_words
from carla_mlflow.contract.control_kinds import CHOICE, INDEX
from carla_mlflow.contract.state_token import STATE
from carla_mlflow.inference.sampling import MAX_SEED
from serve.codecs.options import token_size
from serve.codecs.request_type import NAME, request_type
from serve.errors import STATUS
from serve.run_folder import Served
from serve.settings import Settings
from serve.web.openapi_dashboard import ASKED, dashboard
from serve.web.openapi_inference import inference_paths, inference_schemas
from serve.web.openapi_shapes import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    TOKEN,
    Json,
    array_of,
    asked_of,
    body,
    fields,
    json_content,
    operation,
    ref,
)
from serve.wire.header_rules import HOOK_PATH, OPEN_PATHS, PAGES


def openapi(card: Card, settings: Settings, has_hook: bool) -> Json:
    """Returns an OpenAPI 3.1 document.

    Args:
        card: of the active policy.
        settings: of the server.
        has_hook: whether the server accepts MLflow's webhook.
    """
    paths = {**_prediction_paths(card), **inference_paths(card), **_probe_paths()}
    if has_hook:
        paths[HOOK_PATH] = {"post": operation("MLflow's signed webhook", {"200": _object("received")}, "unauthorized")}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": f"{card.name} {card.version}", "version": __version__, "description": card.description},
        "paths": paths,
        "components": {"schemas": {**_schemas(card, settings), **inference_schemas(card, settings)}},
    }
    if settings.api_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for path in (*OPEN_PATHS, *PAGES, HOOK_PATH):
            for described in paths.get(path, {}).values():
                described["security"] = []
    return document


def example(card: Card) -> Json:
    """Returns an example of a valid observation."""
    return {name: array[0].tolist() for name, array in card.observation_spec.example(1).items()}


def _schemas(card: Card, settings: Settings) -> Json:
    specs = card.observation_spec
    request = request_type(specs, settings.max_batch, bool(card.states))
    _, decoded = msgspec.json.schema_components([request], ref_template="#/components/schemas/{name}")
    decoded[NAME]["examples"] = [{"observations": [example(card)]}]
    seed = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_SEED}
    answer = {
        "actions": array_of(ref("Answered")),
        "version": {"type": "string"},
        "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        "deterministic": {"type": "boolean"},
        "seed": {"type": "integer"},
        "timing_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        "details": array_of(_detail(card)),
    }
    error = {name: {"type": "string"} for name in ("message", "field", "request_id")}
    error["code"] = {"type": "string", "enum": list(STATUS)}  # type: ignore[dict-item]
    mlflow_error = {name: {"type": "string"} for name in ("error_code", "message", "code", "request_id")}
    return {
        **decoded,
        "Action": _action(answer_columns(card.action)),
        "Answered": _action(answer_columns(card.action), remembers=bool(card.states)),
        "PredictResponse": fields(answer, "actions", "version", "digest", "deterministic", "timing_ms"),
        "Error": fields({"error": fields(error, "code", "message", "request_id"), "fallback": ref("Action")}, "error"),
        "MlflowError": fields({**mlflow_error, "fallback": ref("Action")}, *mlflow_error),
        **_scored(decoded["Observation"], card, settings.max_batch),
        "Params": fields({"deterministic": {"type": ["boolean", "null"]}, "seed": seed}),
    }


def _scored(observation: Json, card: Card, max_rows: int) -> Json:
    """The schema of the rows of /invocations: a state may also be a list of its bytes where MLflow takes tensors."""
    if not card.states or not card.observation_spec.has_image:
        return {"Rows": array_of(ref("Observation"), 1, max_rows)}
    length = token_size(card)
    numbers = array_of({"type": "integer", "minimum": 0, "maximum": 255}, length, length)
    numbers["description"] = "the same as numbers, all 0 where the episode begins"
    properties = {**observation["properties"], STATE: {"anyOf": [observation["properties"][STATE], numbers]}}
    scored = {**observation, "title": "ScoredObservation", "properties": properties}
    return {"ScoredObservation": scored, "Rows": array_of(ref("ScoredObservation"), 1, max_rows)}


def _metadata() -> Json:
    """What /metadata answers, as far as programs read it."""
    version = msgspec.json.schema_components([Served])[1]["Served"]["properties"]
    maybe: Json = {"type": ["string", "null"]}
    canary: Json = {name: maybe for name in ("version", "digest", "reason", "loaded_at", "backend")}
    canary |= {"state": {"type": "string", "enum": ["active", "loading", "refused", "idle"]}}
    canary |= {"share": {"type": "number", "minimum": 0, "maximum": 100, "description": "percent"}}
    held = fields({**version, "until": {"type": "string", "format": "date-time"}}, *version, "until")
    described: Json = {
        "served": array_of(fields(version, *version)),
        "canary": {
            "oneOf": [fields(canary, *canary), {"type": "null"}],
            "description": "the version that answers a share of the episodes",
        },
        "held": {**array_of(held), "description": "older versions, which end the episodes that they began"},
    }
    schema = {"type": "object", "properties": described, "required": [*described]}
    return {"description": "the card and more", "content": {"application/json": {"schema": schema}}}


def _action(columns: tuple[AnswerColumn, ...], as_table: bool = False, remembers: bool = False) -> Json:
    """The schema of one action.

    Args:
        columns: of the policy's answers.
        as_table: whether it has a label beside its index, as MLflow answers.
        remembers: whether it has the state token with which the episode goes on.
    """
    properties: Json = {}
    for column in columns:
        if not column.choices:
            properties[column.name] = {"type": "number", "minimum": column.low, "maximum": column.high}
            continue
        index = {"type": "integer", "minimum": 0, "maximum": column.choices - 1}
        label = {"type": "string", "enum": list(column.labels)}
        if not column.labels:
            properties[column.name] = index
        elif as_table or column.name == CHOICE:
            properties |= {column.name: label, column.index_name: index}
        else:
            properties[column.name] = fields({CHOICE: label, INDEX: index}, CHOICE, INDEX)
    properties |= {STATE: TOKEN} if remembers else {}
    return fields(properties, *properties)


def _detail(card: Card) -> Json:
    """The schema of a row's `details`: the raw action and its distribution."""
    bounds = zip(card.action.raw, *(bound.tolist() for bound in card.action.bounds), strict=True)
    raw = {
        name: {"type": "number", "minimum": low, "maximum": high, "description": scale_words(card.action, name)}
        for name, low, high in bounds
    }
    return fields({"raw": fields(raw, *raw), "distribution": {"type": "object"}}, "raw", "distribution")


def _prediction_paths(card: Card) -> Json:
    version = {
        "name": "version", "in": "query", "required": False, "schema": {"type": "string", "enum": [card.version]},
        "description": "a version that is served beside the active one (--also)",
    }  # fmt: skip
    asked, remembers = asked_of(card), bool(card.states)
    predict = operation("actions for observations", {"200": body("PredictResponse")}, *asked)
    predict |= {"requestBody": json_content(NAME), "parameters": [version, *REQUEST_HEADERS]}
    forms = [
        fields({name: ref("Rows"), "params": ref("Params")}, name)
        for name in ("dataframe_records", "instances", "inputs")
    ]
    given = {"predictions": array_of(_action(answer_columns(card.action), True, remembers))}
    success = {
        "description": "as MLflow answers",
        "headers": RESPONSE_HEADERS,
        "content": {"application/json": {"schema": fields(given, "predictions")}},
    }
    invocations = operation("MLflow's scoring protocol", {"200": success}, *asked, error="MlflowError")
    content = {"application/json": {"schema": {"oneOf": forms}, "example": {"inputs": [example(card)]}}}
    invocations |= {"requestBody": {"required": True, "content": content}, "parameters": [version, *REQUEST_HEADERS]}
    return {"/predict": {"post": predict}, "/invocations": {"post": invocations}}


LAST: Json = {
    "name": "last",
    "in": "query",
    "required": False,
    "description": "30m: the counters alone, and of them what was counted in the last half hour",
    "schema": {"type": "string", "enum": ["30m"]},
}


def _probe_paths() -> Json:
    text = {"200": {"description": "text", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    html = {"200": {"description": "a page", "content": {"text/html": {"schema": {"type": "string"}}}}}
    return {
        "/healthz": {"get": operation("whether the process is alive", {"200": _object("alive")})},
        "/readyz": {"get": operation("whether the server is ready", {"200": _object("ready")}, "not_ready")},
        "/metadata": {
            "get": operation("the active policy, its source and measurements", {"200": _metadata()}, "not_ready")
        },
        "/warmup": {
            "post": operation(
                "check parity and measure timings again", {"200": _object("timings")}, "not_ready", "overloaded"
            )
        },
        "/metrics": {"get": operation("for Prometheus", text, "bad_request") | {"parameters": [LAST]}},
        "/openapi.json": {"get": operation("this document", {"200": _object("OpenAPI")}, "not_ready")},
        "/dashboard": {
            "get": operation("what the page at / shows", {"200": dashboard()}, "bad_request") | {"parameters": ASKED}
        },
        "/": {"get": operation("what drives and how, as a page", html)},
        "/docs": {"get": operation("this document, as a page", html)},
    }


def _object(description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}
