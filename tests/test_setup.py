"""The first commands of a new user: which Python is taken, how .venv is made, and what make says about itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests_support import ROOT

from registry.checks.machine_health import TESTED

PYTHON = """\
#!/bin/sh
case "$*" in
  *version_info*) echo {version} ;;
  --version) echo Python {version}.0 ;;
  "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip install "*) echo "$*" >>asked; . ./pip-does ;;
esac
"""
"""What the scripts ask of a Python, and of its pip, whose part a file plays."""
PYENV = '#!/bin/sh\necho "pyenv: python3.11: command not found" >&2; exit 127\n'
BREAKS_OFF = "echo Installing collected packages: a, b; touch .venv/half-a-package; kill -KILL $PPID"
IS_OFFLINE = "echo 'Retrying after connection broken by NewConnectionError(…)'; exit 1"


class Checkout:
    """A folder with the scripts, and a PATH on which no Python is but those that are made here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._programs = folder, folder / "programs"
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        self._programs.mkdir()
        for name in ("bash", "sh", "dirname", "touch", "mkdir", "cp", "rm", "find", "grep", "tail", "wc", "cat", "env"):
            (self._programs / name).symlink_to(shutil.which(name) or name)

    def has(self, name: str, version: str = "", text: str = PYTHON) -> None:
        program = self._programs / name
        program.write_text(text.replace("{version}", version))
        program.chmod(0o755)

    def run(self, *command: str, pip: str = "true", **variables: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "pip-does").write_text(pip)
        environment = {"PATH": str(self._programs), **variables}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def there(self) -> set[str]:
        """What is in .venv, but for the log of pip."""
        return {path.name for path in (self.folder / ".venv").iterdir()} - {"bin", "pip.log"}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_python_that_runs_is_taken_and_a_name_alone_is_none(checkout: Checkout):
    checkout.has("python3.11", text=PYENV)
    checkout.has("python3.13", "3.13")
    checkout.has("python3", "3.10")
    found = checkout.run("scripts/find-python")
    assert (found.stdout, found.stderr) == ("python3.13\n", "")
    assert checkout.run("scripts/find-python", PYTHON="python3").returncode == 1


def test_an_old_python_is_refused_and_a_newer_one_is_said_to_be_untested(checkout: Checkout):
    checkout.has("python3", "3.10")
    refused = checkout.run("scripts/find-python")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("no Python of 3.11, 3.12, 3.13 found (python3 is 3.10); install one")
    assert checkout.run("scripts/setup", "run").returncode == 1
    checkout.has("python", "3.14")
    taken = checkout.run("scripts/find-python")
    assert (taken.stdout, taken.stderr.startswith("Python 3.14 is untested; use one of 3.11")) == ("python\n", True)


def test_the_pythons_that_make_takes_are_those_that_doctor_calls_tested():
    [line] = re.findall(r"^ +([0-9. |]+)\) echo", (ROOT / "scripts" / "find-python").read_text(), re.M)
    assert line.split(" | ") == [".".join(map(str, version)) for version in TESTED]


def test_the_demo_installs_what_it_needs_and_developing_everything(checkout: Checkout):
    checkout.has("python3.12", "3.12")
    assert checkout.run("scripts/setup", "run").returncode == 0
    assert checkout.there() == {".ready-to-run"}
    assert checkout.run("scripts/setup", "dev").returncode == 0
    assert checkout.there() == {".ready-to-run", ".ready"}
    asked = [line.split() for line in (checkout.folder / "asked").read_text().splitlines()]
    assert [line[-1] for line in asked] == ["torch", ".[train]", "torch", ".[dev]"]
    assert all("constraints.txt" in line and "--disable-pip-version-check" in line for line in asked)


def test_an_installation_that_broke_off_is_begun_anew(checkout: Checkout):
    checkout.has("python3.11", "3.11")
    assert checkout.run("scripts/setup", "dev", pip=BREAKS_OFF).returncode != 0
    assert checkout.there() == {"half-a-package", ".writing"}
    again = checkout.run("scripts/setup", "dev")
    assert (again.returncode, "begun anew" in again.stdout) == (0, True)
    assert checkout.there() == {".ready-to-run", ".ready"}


def test_without_a_network_set_up_says_so_and_leaves_what_is_installed(checkout: Checkout):
    checkout.has("python3.11", "3.11")
    assert checkout.run("scripts/setup", "run").returncode == 0
    (checkout.folder / ".venv" / "a-package").touch()
    failed = checkout.run("scripts/setup", "dev", pip=IS_OFFLINE)
    assert failed.returncode == 1
    assert failed.stderr.startswith("set-up: pip can't reach a package index; is this machine online?")
    assert checkout.there() == {"a-package"}
    assert "begun anew" not in checkout.run("scripts/setup", "dev").stdout


def test_a_python_that_is_named_is_not_passed_over_for_that_of_an_older_set_up(checkout: Checkout):
    checkout.has("python3.11", "3.11")
    checkout.has("python3.13", "3.13")
    assert checkout.run("scripts/setup", "run").returncode == 0
    refused = checkout.run("scripts/setup", "run", PYTHON="python3.13")
    assert (refused.returncode, ".venv has another Python than python3.13; remove" in refused.stderr) == (1, True)
    assert checkout.run("scripts/setup", "run", PYTHON="python3.11").returncode == 0


def test_told_to_stop_it_stops_after_what_pip_is_doing_and_goes_on_the_next_time(checkout: Checkout):
    checkout.has("python3.11", "3.11")
    stopped = checkout.run("scripts/setup", "dev", pip="kill -TERM $PPID")
    assert (stopped.returncode, stopped.stderr) == (130, "interrupted; the next make goes on\n")
    assert checkout.there() == set()
    assert checkout.run("scripts/setup", "dev").returncode == 0


def test_a_job_says_how_long_it_took_the_last_time_and_what_fails_is_not_remembered(checkout: Checkout):
    (checkout.folder / ".venv").mkdir()
    assert checkout.run("scripts/timed", "x", "counting", "1 to 2 min", "true").stdout.startswith(
        "== counting: 1 to 2 min\n== done in "
    )
    (checkout.folder / ".venv" / ".took-x").write_text("130\n")
    failed = checkout.run("scripts/timed", "x", "counting", "1 to 2 min", "sh", "-c", "exit 7")
    assert (failed.returncode, failed.stdout) == (7, "== counting: 2 min here the last time\n")


def test_make_lists_every_target_with_what_it_does():
    text = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.M)
    listed = subprocess.check_output(["make", "-C", str(ROOT), "--no-print-directory"], text=True)
    assert set(re.findall(r"^  make (\S+) +\S", listed, re.M)) == set(phony.replace("\\", "").split()) - {"test-ci"}


def test_cleaning_leaves_what_somebody_has_made(tmp_path: Path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("site", ".demo", "htmlcov", "serve/__pycache__", "checkpoint", "policies/mine", "mlruns", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mlflow.db", "policies/mine/model.pt", ".coverage"):
        (tmp_path / name).touch()
    said = subprocess.check_output(["make", "--no-print-directory", "clean"], cwd=tmp_path, text=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("Makefile", "serve", "checkpoint", "policies", "mlruns", "mlflow.db", ".venv"),
    }
    assert list((tmp_path / "serve").iterdir()) == []
    assert said.splitlines() == ["removing .demo", "removing site", "removing htmlcov", "removing .coverage"]
    subprocess.check_call(["make", "distclean"], cwd=tmp_path)
    assert not (tmp_path / ".venv").exists()
    assert (tmp_path / "policies" / "mine" / "model.pt").exists()
