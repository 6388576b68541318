"""/openapi.json says what the server does: its examples work, and schemathesis finds no other answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import Server, missing

from benchmarks.networks import small_view
from carla_mlflow import open_artifact
from serve.openapi import openapi
from serve.settings import Settings
from training_export.export import export_policy


def test_the_documents_examples_are_answered(server: Server):
    document = server.get("/openapi.json").json
    assert document["info"]["title"] == "racetrack-policy 0.1.0"
    schemas = document["components"]["schemas"]
    assert server.post("/predict", schemas["Question"]["examples"][0]).status == 200
    infer = next(path for path in document["paths"] if path.endswith("/infer"))
    assert server.post(infer, schemas["InferQuestion"]["examples"][0]).status == 200
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
    assert fields["Question"]["properties"]["observations"]["maxItems"] == 7


def test_an_image_may_come_as_base64():
    card = export_policy(small_view(), "viewer", "1.0.0", "").artifact.card
    lists, text = openapi(card, Settings(), False)["components"]["schemas"]["Observation"]["properties"]["bev"]["oneOf"]
    assert lists["items"]["items"]["items"] == {"type": "integer", "minimum": 0.0, "maximum": 255.0}
    assert text["required"] == ["base64"]


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
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.browser
def test_the_page_is_read_and_tried_in_a_browser_without_another_host(server: Server):
    if not Path("/usr/bin/chromium").exists():
        missing("Chromium", "chromium")
    from playwright.sync_api import expect, sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{server.url}/docs")
        expect(page.locator("#question")).to_have_value(re.compile("speed"))
        page.click("#ask")
        expect(page.locator("#answer")).to_contain_text("throttle")
        answer = json.loads(page.text_content("#answer") or "")
        browser.close()
    assert said == []
    assert all(url.startswith((server.url, "data:")) for url in asked)
    question = server.get("/openapi.json").json["components"]["schemas"]["Question"]["examples"][0]
    assert answer["actions"] == server.post("/predict", question).json["actions"]
