"""/openapi.json says what the server does: its examples work, and schemathesis finds no other answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mlflow_ui import open_browser
from msgspec.structs import replace
from patience import PATIENCE_S
from playwright.sync_api import Page, expect
from tests_support import Server
from without_pedals import KINDS

from benchmarks.policies.networks import small_view
from carla_mlflow import ArraySpec, open_artifact
from carla_mlflow.contract.field_card import FieldCard
from serve.codecs.request_type import value_type
from serve.settings import Settings
from serve.web.openapi import openapi
from training_export.export.export import export_policy


def test_the_documents_examples_are_answered(server: Server):
    document = server.get("/openapi.json").json
    assert document["info"]["title"] == "racetrack-policy 0.1.0"
    schemas = document["components"]["schemas"]
    assert server.post("/predict", schemas["PredictRequest"]["examples"][0]).status == 200
    infer = next(path for path in document["paths"] if path.endswith("/infer"))
    assert server.post(infer, schemas["InferRequest"]["examples"][0]).status == 200
    content = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    assert server.post("/invocations", content["example"]).status == 200
    for path, methods in document["paths"].items():
        for method in methods:
            status = server.send(method.upper(), path).status
            assert str(status) in methods[method]["responses"], (method, path, status)


def test_every_bound_of_the_card_stands_in_the_document(example: Path):
    card = open_artifact(example).card
    fields = openapi(card, Settings(max_batch=7), False)["components"]["schemas"]
    speed = fields["Observation"]["properties"]["speed"]
    assert (speed["minimum"], speed["maximum"]) == (0.0, 60.0)
    assert fields["Observation"]["properties"]["sensors"]["minItems"] == 12
    assert fields["PredictRequest"]["properties"]["observations"]["maxItems"] == 7


def schema_of(spec: ArraySpec) -> dict[str, Any]:
    """How the document describes a field."""
    return msgspec.json.schema(value_type(spec))


def test_an_open_bound_is_none_in_the_document():
    half = schema_of(ArraySpec("x", "float32", (2,), (0.0, None), 5.0))["items"]
    assert half == {"type": "number", "maximum": 5.0}
    speed = schema_of(ArraySpec("speed", "float32", (), 0.0, None))
    assert (speed["minimum"], "maximum" in speed) == (0.0, False)


def test_the_document_says_what_a_raw_action_means(example: Path):
    card = open_artifact(example).card
    raw = {"steer": (-0.3, 0.3), "acceleration": (-3.0, 3.0)}
    action = replace(card.action, raw=raw, full_throttle=3.0, full_brake=-8.0, full_right=-1.0)
    schemas = openapi(replace(card, action=action), Settings(), False)["components"]["schemas"]
    told = schemas["PredictResponse"]["properties"]["details"]["items"]["properties"]["raw"]["properties"]
    assert told["acceleration"]["description"] == "full throttle at 3, full brake at -8"
    assert told["steer"]["description"] == "full right at -1"
    assert told["steer"]["minimum"] == np.float32(-0.3)  # as the answer has it


def test_the_protocols_tensors_may_have_every_value_that_an_element_may():
    fields = {
        "pair": FieldCard("float32", [2], [0.0, -5.0], [1.0, 9.0]),
        "gear": FieldCard("float32", [2], [0.0, 300.0], [2.0, 301.0], choices=[3, 2]),
        "mask": FieldCard("uint8", [3], 0, 1),
    }
    card = replace(KINDS["values"].artifact().card, observation=fields)
    schemas = openapi(card, Settings(), False)["components"]["schemas"]
    told = [
        each["properties"]["data"]["items"] for each in schemas["InferRequest"]["properties"]["inputs"]["prefixItems"]
    ]
    assert told == [
        {"type": "number", "minimum": -5.0, "maximum": 9.0},
        {"type": "number", "minimum": 0.0, "maximum": 301.0, "multipleOf": 1},
        {"type": "number", "minimum": 0.0, "maximum": 1.0, "multipleOf": 1},
    ]


def test_an_image_may_come_as_base64():
    card = export_policy(small_view(), "viewer", "1.0.0", "").artifact.card
    schemas = openapi(card, Settings(), False)["components"]["schemas"]
    lists, text = schemas["Observation"]["properties"]["bev"]["anyOf"]
    pixel = {"type": "number", "multipleOf": 1, "minimum": 0.0, "maximum": 255.0}
    assert lists["items"]["items"]["items"] == pixel
    assert text == {"$ref": "#/components/schemas/Base64"}
    assert schemas["Base64"]["properties"]["base64"]["contentEncoding"] == "base64"


@pytest.mark.slow
def test_schemathesis_finds_no_5xx_and_no_answer_that_is_not_documented(server: Server, tmp_path: Path):
    program = Path(sys.executable).parent / "schemathesis"
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [str(program), "run", f"{server.url}/openapi.json", "--checks", checks, "--max-examples", "40"]
    command += ["--exclude-path", "/warmup", "--seed", "1", "--no-color"]
    # A budget that is over is answered with 504 and the fallback: that is what was asked for.
    (tmp_path / "schemathesis.toml").write_text(
        '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "4xx", 504]\n'
    )
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page that may say nothing on its console."""
    with open_browser() as browser:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        yield page
    assert said == []


@pytest.mark.browser
@pytest.mark.slow
def test_the_document_is_read_and_tried_in_a_browser_without_another_host(server: Server, page: Page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/docs")
    expect(page.locator("#question")).to_have_value(re.compile("speed"))
    page.click("#ask")
    expect(page.locator("#answer")).to_contain_text("throttle")
    answer = json.loads(page.text_content("#answer") or "")
    prediction = server.get("/openapi.json").json["components"]["schemas"]["PredictRequest"]["examples"][0]
    assert answer["actions"] == server.post("/predict", prediction).json["actions"]
    assert all(url.startswith((server.url, "data:")) for url in asked)
