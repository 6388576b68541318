"""The routes of the Open Inference Protocol, under /v2. None of them loads or unloads a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g

from carla_mlflow import __version__
from carla_mlflow.contract.state_token import STATE
from serve.codecs.tensor_entry import BYTES, DATATYPES
from serve.errors import ApiError
from serve.policy.readiness import check_ready
from serve.policy.selection import Selection, find_serving
from serve.policy.serving import Serving
from serve.policy.slot import Slot


def add_inference(app: Flask, slot: Slot, infer: Callable[..., Response]) -> None:
    """Adds the protocol's routes.

    Args:
        app: the Flask app.
        slot: the policies that are served.
        infer: answers a prediction request, given a policy's name and perhaps a version.
    """

    @app.get("/v2")
    def server() -> dict[str, Any]:
        return {"name": "carla-serve", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    def live() -> dict[str, Any]:
        return {"live": True}

    @app.get("/v2/health/ready")
    def server_ready() -> dict[str, Any]:
        if slot.draining:
            raise ApiError("not_ready", "stopping")
        check_ready(slot)
        return {"ready": True}

    _add_models(app, slot)
    app.add_url_rule("/v2/models/<name>/infer", "infer", infer, methods=["POST"])
    app.add_url_rule("/v2/models/<name>/versions/<version>/infer", "infer_version", infer, methods=["POST"])


def _add_models(app: Flask, slot: Slot) -> None:
    def find(name: str, version: str | None = None) -> Serving:
        g.serving = serving = find_serving(slot, Selection(version, name))
        return serving

    @app.get("/v2/models/<name>")
    @app.get("/v2/models/<name>/versions/<version>")
    def model(name: str, version: str | None = None) -> dict[str, Any]:
        return describe_model(find(name, version), slot)

    @app.get("/v2/models/<name>/ready")
    @app.get("/v2/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        found = find(name, version)
        check_ready(slot)
        return {"name": found.card.name, "ready": True}


def describe_model(serving: Serving, slot: Slot) -> dict[str, Any]:
    """Returns the protocol's metadata of a model, from its card."""
    outputs = serving.inference.outputs.items()
    state = [{"name": STATE, "datatype": BYTES, "shape": [-1]}] * serving.inference.remembers
    return {
        "name": serving.card.name,
        "versions": list(dict.fromkeys(served.version for served in slot.served())),
        "platform": serving.engine.backend,
        "inputs": [
            {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": [-1, *spec.shape]}
            for spec in serving.engine.specs
        ]
        + state,
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [-1, width] if width else [-1]} for name, width in outputs
        ]
        + state,
    }
