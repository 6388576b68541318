"""What a container is given: secrets as files, and a policy that its image holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests_support import EXAMPLE, run_command

from carla_mlflow import open_artifact
from serve.bake import bake
from serve.flags import settings_from_environment, with_baked


def test_a_secret_is_read_from_its_file_unless_it_is_given_outright(tmp_path: Path):
    (tmp_path / "key").write_text("abc\n")
    asked = {"POLICY_API_KEY_FILE": str(tmp_path / "key")}
    assert settings_from_environment(asked).api_key == "abc"
    assert settings_from_environment({**asked, "POLICY_API_KEY": "given"}).api_key == "given"


def test_a_secrets_file_that_can_not_be_read_is_a_usage_error(tmp_path: Path):
    done = run_command("carla-serve", "--model", str(EXAMPLE), env={"POLICY_API_KEY_FILE": str(tmp_path / "none")})
    assert (done.code, "POLICY_API_KEY_FILE" in done.err) == (2, True)


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


@pytest.mark.parametrize("flags", [[], ["--path", "/healthz"]])
def test_the_probe_fails_where_nobody_answers(flags: list[str]):
    done = run_command("python", "-m", "serve.probe", *flags, env={"POLICY_PORT": "1"})
    assert (done.code, "port 1" in done.err) == (1, True)
