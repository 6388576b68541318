"""What a container is given: secrets as files, and a policy that its image holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import EXAMPLE, Server, run_command

from carla_mlflow import open_artifact
from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.flavor.environment import state_key
from serve.bake import bake
from serve.cores import usable_cores
from serve.flags import settings_from_environment, unknown_variables, with_baked
from serve.probe import PORT
from serve.settings import Settings


def test_a_secret_is_read_from_its_file_unless_it_is_given_outright(tmp_path: Path):
    (tmp_path / "key").write_text("abc\n")
    asked = {"POLICY_API_KEY_FILE": str(tmp_path / "key")}
    assert settings_from_environment(asked).api_key == "abc"
    assert settings_from_environment({**asked, "POLICY_API_KEY": ""}).api_key == "abc"  # else the server were open
    assert settings_from_environment({**asked, "POLICY_API_KEY": "given"}).api_key == "given"


def test_a_secrets_file_that_can_not_be_read_is_a_usage_error(tmp_path: Path):
    done = run_command("carla-serve", "--model", str(EXAMPLE), env={"POLICY_API_KEY_FILE": str(tmp_path / "none")})
    assert (done.code, "POLICY_API_KEY_FILE" in done.err) == (2, True)


@pytest.mark.parametrize("name", ["POLICY_API_KEY", "POLICY_WEBHOOK_SECRET"])
@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_key_is_refused_and_opens_no_server(tmp_path: Path, name: str, is_file: bool, content: str):
    (tmp_path / "key").write_text(content)
    asked = {f"{name}_FILE": str(tmp_path / "key")} if is_file else {name: content}
    with pytest.raises(ValueError, match=rf"^{name}(_FILE='.*')?: it is empty; fill it, or unset it to serve without$"):
        settings_from_environment(asked)


KEY = "the-key-of-the-fleet"


def key_by_each_reader(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The state key, or what is wrong with it: as the server reads it, and as scoring and MLflow models do."""
    found = set()
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        for read in (state_key, lambda: settings_from_environment(environment).state_key):
            try:
                found.add(read())
            except (CarlaMlflowError, ValueError) as error:
                found.add(f"refused: {error}")
    return found


@pytest.mark.parametrize(("variable", "content"), [(None, KEY), (None, f"\n {KEY}\n"), ("", KEY), (f" {KEY}\n", "x")])
def test_the_state_key_is_the_same_for_every_reader_and_from_either_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, content: str
):
    (tmp_path / "key").write_text(content)
    outright = {} if variable is None else {"POLICY_STATE_KEY": variable}
    asked = {"POLICY_STATE_KEY_FILE": str(tmp_path / "key"), **outright}
    assert key_by_each_reader(asked, monkeypatch) == {KEY}


@pytest.mark.parametrize(
    ("variable", "content", "problem"),
    [
        (None, "", "the key is empty"),
        (None, " \n", "the key is empty"),
        ("", "", "the key is empty"),
        (" ", KEY, "POLICY_STATE_KEY: the key is empty"),
        ("short", KEY, "POLICY_STATE_KEY: the key has 5 characters; expected at least 16"),
        (None, "fifteen letters", "the key has 15 characters; expected at least 16"),
    ],
)
def test_a_state_key_that_protects_nothing_is_refused_by_every_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, content: str, problem: str
):
    (tmp_path / "key").write_text(content)
    outright = {} if variable is None else {"POLICY_STATE_KEY": variable}
    [found] = key_by_each_reader({"POLICY_STATE_KEY_FILE": str(tmp_path / "key"), **outright}, monkeypatch)
    assert found.startswith("refused: ")
    assert problem in found


def test_a_state_key_file_without_a_name_is_refused_and_no_variable_is_no_key(monkeypatch: pytest.MonkeyPatch):
    [found] = key_by_each_reader({"POLICY_STATE_KEY_FILE": ""}, monkeypatch)
    assert "POLICY_STATE_KEY_FILE='': can't be read" in found
    assert key_by_each_reader({}, monkeypatch) == key_by_each_reader({"POLICY_STATE_KEY": ""}, monkeypatch) == {""}


def test_a_baked_policy_is_served_by_its_digest_unless_another_is_named(tmp_path: Path):
    digest = bake(EXAMPLE, tmp_path)
    assert digest == open_artifact(EXAMPLE).digest
    asked = {"POLICY_BAKED": str(tmp_path)}
    settings = settings_from_environment(with_baked(asked))
    assert (settings.model, settings.digest) == (str(tmp_path / "policy"), digest)
    other = settings_from_environment(with_baked({**asked, "POLICY_MODEL": "mine@production"}))
    assert (other.model, other.digest) == ("mine@production", "")
    empty = settings_from_environment(with_baked({"POLICY_BAKED": str(tmp_path / "none")}))
    assert (empty.model, empty.digest) == ("", "")


def test_what_can_not_be_baked_is_said_and_leaves_nothing(tmp_path: Path):
    done = run_command("python", "-m", "serve.bake", str(tmp_path / "none"), str(tmp_path / "out"))
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert not (tmp_path / "out" / "digest").exists()


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_FORMAT", "JSON", "json"),
        ("LOG_REQUESTS", "All", "all"),
        ("BACKEND", "ONNX", "onnx"),
        ("WORKER_CLASS", "GThread", "gthread"),
        ("DEVICE", "CPU", "cpu"),
    ],
)
def test_what_is_chosen_from_a_list_may_be_in_capitals(name: str, value: str, found: str):
    settings = settings_from_environment({f"POLICY_{name}": value, "POLICY_MODEL": str(EXAMPLE)})
    assert getattr(settings, name.lower()) == found
    assert settings.problems() == []


def test_variables_that_are_no_settings_are_told_in_one_warning_with_what_may_be_meant():
    environment = {
        "POLICY_MAX_BTCH": "8",
        "POLICY_ZZZ": "secret",
        "POLICY_API_KEY_FLE": "",
        "POLICY_PORT": "1",
        "PATH": "",
    }
    assert unknown_variables(environment) == (
        "'POLICY_API_KEY_FLE' is no setting (is POLICY_API_KEY_FILE meant?); "
        "'POLICY_MAX_BTCH' is no setting (is POLICY_MAX_BATCH meant?); 'POLICY_ZZZ' is no setting"
    )


def of_service(name: str) -> dict[str, str]:
    """What Kubernetes sets for a Service with a named port."""
    port = f"{name}_PORT_80_TCP"
    return {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "80",
        f"{name}_SERVICE_PORT_HTTP": "80",
        f"{name}_PORT": "tcp://10.0.0.1:80",
        port: "tcp://10.0.0.1:80",
        f"{port}_PROTO": "tcp",
        f"{port}_PORT": "80",
        f"{port}_ADDR": "10.0.0.1",
    }


@pytest.mark.parametrize("name", ["POLICY_SERVER", "POLICY"])
def test_what_kubernetes_sets_for_a_service_is_neither_a_setting_nor_told_of(name: str):
    environment = of_service(name)
    assert unknown_variables(environment) is None
    assert settings_from_environment(environment) == Settings()


def test_the_probe_asks_the_servers_default_port_where_no_port_is_told():
    assert Settings.port == PORT
    done = run_command("python", "-m", "serve.probe", env=of_service("POLICY") | {"POLICY_CERTFILE": ""})
    assert ("port 8080" in done.err, "Traceback" in done.err) == (done.code == 1, False)


def test_a_server_with_a_misspelt_variable_says_so_once_and_serves(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICY_WORKER", "2")
    server = start_server("--model", str(EXAMPLE), "--log-level", "WARNING")
    server.wait_ready()
    assert server.log.read_text().count("'POLICY_WORKER' is no setting (is POLICY_WORKERS meant?)") == 1


@pytest.mark.parametrize("flags", [[], ["--path", "/healthz"]])
def test_the_probe_fails_where_nobody_answers(flags: list[str]):
    done = run_command("python", "-m", "serve.probe", *flags, env={"POLICY_PORT": "1"})
    assert (done.code, "port 1" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_no_more_cores_are_used_than_a_container_may(tmp_path: Path, files: dict[str, str], most: int | None):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    here = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == (here if most is None else min(here, most))
