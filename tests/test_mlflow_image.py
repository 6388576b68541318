"""The image that MLflow itself makes of a registered policy: `mlflow models generate-dockerfile`."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import numpy as np
import podman_images as engine
import pytest
from tests_support import EXAMPLE, registry_here, run_command

from carla_mlflow import Engine
from carla_mlflow.contract.control_kinds import CONTROL_NAMES

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.xdist_group("container")]
ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}
PORT = 8080
"""MLflow's image listens on no other."""
# The image that MLflow asks for has pip beside Python; Debian's wants an environment for it.
BASE = f"FROM {engine.BASE}\nRUN python3 -m venv /usr/local/python\nENV PATH=/usr/local/python/bin:$PATH\n"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> str:
    """The image's name."""
    engine.need_podman()
    engine.make_base()
    folder = tmp_path_factory.mktemp("mlflow-image")
    shutil.copy(tables, folder)
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    out = folder / "out"
    for done in (
        registry_here("register", str(EXAMPLE), "--name", "mine", env=env),
        run_command("mlflow", "models", "generate-dockerfile", "-m", "models:/mine/1", "-d", str(out), env=env),
    ):
        assert done.code == 0, done.err
    first, rest = (out / "Dockerfile").read_text().split("FROM ", 1)
    (out / "Dockerfile").write_text(first + BASE + rest.split("\n", 1)[1])
    name = "localhost/mlflow-generated"
    engine.build(name, folder=out)
    return name


def test_the_image_that_mlflow_generates_gives_the_engines_actions(image: str):
    name = f"mlflow-{secrets.token_hex(4)}"
    container = engine.Container(name, PORT, time.monotonic())
    command = ["--runtime", engine.RUNTIME, "run", "-d", "--name", name, "--network", "host", *engine.LIMITS]
    engine.podman(*command, image)
    try:
        container.wait_for(lambda: container.ask("/ping").status == 200)
        answer = container.ask("/invocations", {"dataframe_records": [ROW]})
        wanted = Engine.open(EXAMPLE, device="cpu").act([ROW]).control[0]
        assert answer.status == 200, answer.body
        got = answer.json["predictions"][0]
        assert [np.float32(got[key]) for key in CONTROL_NAMES] == wanted.tolist()
    finally:
        engine.podman("rm", "-f", "-t", "1", name, check=False)
