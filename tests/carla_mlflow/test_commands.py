"""What every command does with an error: one line that says what to do, and an exit code."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from tests_support import command_here, registry_here
from tests_support import run_command as run

from carla_mlflow.cli import DONE, REFUSED, UNREACHABLE, run_command
from carla_mlflow.errors import UnreachableError
from carla_mlflow.extras import how_to_install


def parser(command: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("a-command")
    made.add_argument("--debug", action="store_true")
    made.set_defaults(run=command)
    return made


def raising(error: BaseException) -> Callable[[argparse.Namespace], int | None]:
    def command(_: argparse.Namespace) -> int | None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UnreachableError("no answer"), UNREACHABLE, "a-command: no answer\n"),
        (FileNotFoundError(2, "No such file", "x.csv"), REFUSED, "a-command: x.csv: No such file\n"),
        (
            KeyError("lost"),
            REFUSED,
            "a-command: stopped by an unexpected error, KeyError: 'lost' (--debug shows where)\n",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            REFUSED,
            "a-command: needs torch, which is not installed: pip install 'carla-mlflow[train]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'my_lab'", name="my_lab"),
            REFUSED,
            "a-command: stopped by an unexpected error, ModuleNotFoundError: No module named 'my_lab' "
            "(--debug shows where)\n",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str], error, code: int, said: str):
    assert run_command(parser(raising(error)), [], extra="train") == code
    assert capsys.readouterr().err == said
    with pytest.raises(type(error)):
        run_command(parser(raising(error)), ["--debug"])


def test_a_command_that_ends_well_is_0():
    assert run_command(parser(lambda _: None), []) == DONE


@pytest.mark.parametrize(
    ("module", "extra", "brings"),
    [
        ("gunicorn", "serve", "serve"),
        ("mlflow.tracking", "serve", "serve"),
        ("sklearn", "train", "train"),
        ("torch", "serve", "torch"),
        ("pyarrow.parquet", "score", "score"),
        ("ray", "serve", "ray"),
        ("stable_baselines3", "train", "train"),
    ],
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(module: str, extra: str, brings: str):
    said = how_to_install(ModuleNotFoundError(name=module), extra)
    assert said is not None
    assert said.endswith(f"pip install 'carla-mlflow[{brings}]'")


def test_a_module_of_the_users_own_is_none_of_ours():
    assert how_to_install(ModuleNotFoundError(name="my_lab.nets"), "serve") is None


@pytest.mark.parametrize(
    "command", [("carla-registry", "list"), ("carla-serve", "--model", "mine@production", "--port", "0")]
)
def test_a_secrets_file_that_is_not_there_is_named(mlflow_home: Path, command: tuple[str, ...]):
    done = run(*command, env={"MLFLOW_TRACKING_PASSWORD_FILE": "/nowhere/password"})
    assert done.code == REFUSED
    assert "MLFLOW_TRACKING_PASSWORD_FILE=/nowhere/password: can't be read as text" in done.err
    assert "Traceback" not in done.err


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's own, where it logs a text
def test_a_run_that_holds_no_policy_is_told_with_what_makes_one(mlflow_home: Path):
    with mlflow.start_run() as active:
        mlflow.log_text("weights", "checkpoint/policy.zip")
    run_id = active.info.run_id
    done = registry_here("register", f"runs:/{run_id}/policy", "--name", "mine")
    assert (done.code, done.err) == (
        REFUSED,
        f"carla-registry: runs:/{run_id}/policy: holds no policy artifact; is it a training run? "
        f"carla-export runs:/{run_id} --log logs one\n",
    )
    latest = registry_here("register", "runs:/latest/policy", "--name", "mine")
    assert latest.code == REFUSED
    assert "no training run yet" in latest.err
    broken = command_here("carla-export", f"runs:/{run_id}", "--output", "made")
    assert broken.code == REFUSED
    assert f"runs:/{run_id}/checkpoint: not a training checkpoint, preprocessor.skops is missing" in broken.err


@pytest.mark.parametrize("shown", ["card's schema", "of a command"])
def test_a_command_whose_reader_left_before_it_was_done_says_so_by_its_exit_code_alone(shown: str):
    """As `head -1` does; what is shown is more than a pipe holds, and printed when nobody reads."""
    if shown == "of a command":
        text = "from carla_mlflow.cli import *; import argparse; p = argparse.ArgumentParser()\n"
        text += "p.set_defaults(run=lambda _: [print('x' * 200_000) for _ in 'ab'] and None, debug=False)\n"
        text += "import sys; sys.exit(run_command(p, []))"
    else:
        text = "import sys; from training_export.export_command import main; sys.exit(main(['--schema']))"
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([sys.executable, "-c", text], stdout=writes, stderr=subprocess.PIPE, check=False)
    os.close(writes)
    assert (done.stderr, done.returncode) == (b"", 141)


@pytest.mark.parametrize("out", ["/dev/full", "closed"])
def test_an_output_that_takes_nothing_is_told_without_a_traceback(mlflow_home: Path, out: str):
    redirection = ">&-" if out == "closed" else f"> {out}"
    command = f"{shlex.quote(sys.executable)} -m registry list {redirection}"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    said = "" if out == "closed" else "carla-registry: No space left on device\n"
    assert (done.stderr, done.returncode) == (said, 0 if out == "closed" else 1)


def test_a_command_that_is_interrupted_twice_shows_no_traceback():
    program = (
        "import os, signal; from carla_mlflow.cli import run_command; from carla_mlflow.command_parser import *\n"
        "def twice(_): os.kill(os.getpid(), signal.SIGINT)\n"
        "p = CommandParser('a-command'); add_common(p); p.set_defaults(run=twice)\n"
        "assert run_command(p, []) == 130; os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-2, "interrupted\n")


def test_a_registry_that_is_no_address_is_refused_with_one_that_is():
    done = registry_here("list", env={"MLFLOW_TRACKING_URI": "localhost:5000"})
    assert (done.code, done.err) == (
        1,
        "carla-registry: 'localhost:5000' is no address of MLflow; expected such as http://HOST:5000 or "
        "sqlite:///mlflow.db (MLFLOW_TRACKING_URI, or MLFLOW_REGISTRY_URI)\n",
    )
