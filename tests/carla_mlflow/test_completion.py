"""Completion of the three programs in bash, zsh and fish."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests_support import run_command

from carla_mlflow.completion import SHELLS, shell_of

PROGRAMS = ("carla-registry", "carla-export", "carla-serve")
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_script_is_printed_for_each_shell(program: str):
    for shell in SHELLS:
        done = run_command(program, "completion", shell)
        assert done.code == 0, done.err
        assert program in done.out
        assert "debug" in done.out
        if shutil.which(shell):
            subprocess.run([shell, "-n"], input=done.out, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["carla-registry", "pro"], ["promote"]),
        (["carla-registry", "promote", "x@1.0.0", "--to", "can"], ["canary"]),
        (["carla-registry", "rollback", "--st"], ["--stage"]),
        (["carla-export", "--no-v"], ["--no-vecnormalize"]),
        (["carla-serve", "--worker-class", "gt"], ["gthread"]),
    ],
)
def test_bash_completes_commands_flags_and_choices(words: list[str], offered: list[str], tmp_path):
    script = tmp_path / "completion.bash"
    script.write_text(run_command(words[0], "completion", "bash").out)
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(script), *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == offered, done.stderr


def test_only_a_known_shell_is_asked_for(capsys: pytest.CaptureFixture[str]):
    assert shell_of("carla-registry", ["completion", "fish"]) == "fish"
    assert shell_of("carla-registry", ["list"]) is None
    for wrong in (["completion"], ["completion", "tcsh"]):
        with pytest.raises(SystemExit, match="2"):
            shell_of("carla-registry", wrong)
        assert "carla-registry completion: error: " in capsys.readouterr().err


def test_completion_says_how_it_is_used(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        shell_of("carla-export", ["completion", "--help"])
    assert "carla-export completion bash > ~/.local/share/bash-completion/" in capsys.readouterr().out
