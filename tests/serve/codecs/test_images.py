"""Policies that see images: as nested lists, as base64, as bytes of /v2; the same bits by every way."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from conftest import servers
from tests_support import Answer, Server

from benchmarks.policies.networks import small_view
from benchmarks.policies.two_policies import write
from carla_mlflow import Engine
from training_export.export.export import export_policy

SHAPE = (4, 64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(export_policy(small_view(), "viewer", "1.0.0", "").artifact, tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def seen(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    observations = {
        "bev": rng.integers(0, 256, (5, *SHAPE)).astype(np.uint8),
        "state": rng.uniform(-1, 1, (5, 3)).astype(np.float32),
    }
    return observations, Engine.open(folder, device="cpu").act(observations).control


@pytest.fixture(scope="module", params=["loop", "gthread"])
def viewer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        running = start("--model", str(folder), "--worker-class", request.param)
        running.wait_ready()
        yield running


def predict(server: Server, rows: list[Any]) -> Answer:
    return server.post("/predict", {"observations": rows})


def text(image: np.ndarray) -> dict[str, str]:
    return {"base64": base64.b64encode(image.tobytes()).decode()}


def test_lists_base64_and_bytes_give_the_engines_bits(viewer: Server, seen: Any):
    observations, wanted = seen
    for form in (text, np.ndarray.tolist):
        rows = [
            {"bev": form(bev), "state": state.tolist()}
            for bev, state in zip(observations["bev"], observations["state"], strict=True)
        ]
        rows[0]["bev"] = observations["bev"][0].tolist()  # the forms may be mixed
        given = [list(row.values()) for row in predict(viewer, rows).json["actions"]]
        assert np.array(given, dtype=np.float32).tobytes() == wanted.tobytes()
    with triton.InferenceServerClient(viewer.url.removeprefix("http://")) as client:
        asked = [
            triton.InferInput("bev", [5, *SHAPE], "UINT8"),
            triton.InferInput("state", [5, 3], "FP32"),
        ]
        for one in asked:
            one.set_data_from_numpy(observations[one.name()])
        answer = client.infer("viewer", asked)
        for column, name in enumerate(("throttle", "brake", "steer")):
            assert answer.as_numpy(name).tobytes() == np.ascontiguousarray(wanted[:, column]).tobytes()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"base64": "AAAA"}, "expected 16384 bytes, got 3"),
        ({"base64": "A"}, "is not base64"),
        ({"base64": "Ä" * 8}, "is not base64"),
        ({"base64": 7}, "is not base64"),
        ({"base64": "AAAA", "more": 1}, "expected 4 values, got an object"),
        ("AAAA", "expected 4 values, got a string"),
        ([[[0.5] * 64] * 64] * 4, "expected a whole number from 0 to 255"),
    ],
)
def test_an_image_that_is_none_is_refused_by_row_and_field(viewer: Server, image: Any, message: str):
    good = {"bev": text(np.zeros(SHAPE, np.uint8)), "state": [0, 0, 0]}
    answer = predict(viewer, [good, {**good, "bev": image}])
    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_observation")
    assert answer.json["error"]["field"].startswith("observations[1].bev")
    assert answer.json["error"]["message"] == message
    twice = msgspec.json.encode({"observations": [good]}).replace(b'"base64":', b'"base64":"AAAA","base64":')
    assert viewer.post("/predict", twice).json["error"]["code"] == "bad_json"
