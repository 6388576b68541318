"""Every command looks alike: flags, exit codes, an example, and an answer before anything heavy is loaded."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

import pytest
from every_command import MODULES, commands, parser_of, parsers

from carla_mlflow import __version__
from carla_mlflow.command_parser import CommandParser
from carla_mlflow.exit_codes import EXIT_CODES
from serve.flags import parse_settings

COMMANDS = {parser.prog: parser for parser in commands()}
HEAVY = ["numpy", "mlflow", "torch", "pandas", "onnxruntime", "sklearn", "pyarrow", "gunicorn", "flask", "tqdm"]
WRONG = {
    "registry.__main__": ["promote x@1.0.0", "list --no-such-flag", "watch x --every never"],
    "serve.__main__": ["--model x@y --workers 0", "--no-such-flag"],
    "serve.score.command": ["--model x"],
    "serve.replay.command": ["recordings --at noon", "recordings --at 2026-11-28T14 --to 2026-11-28T15"],
    "training_export.__main__": ["train --total-timesteps 0", "evaluate x --env-config a.yaml"],
    "training_export.export_command": ["checkpoint", "checkpoint --episodes -1"],
    "carla_agent.__main__": ["drive", "drive --url http://x --hz 0"],
    "carla_mlflow.testing.__main__": ["folder --p99-ms 0"],
}
"""The module with a command's `main` → command lines that are no command."""


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


@pytest.mark.parametrize("program", COMMANDS)
def test_every_command_has_the_same_flags(program: str):
    assert flags(COMMANDS[program]) >= {"--help", "--version", "--debug", "--quiet"}
    assert "--json" in flags(COMMANDS[program]) or program == "carla-serve"  # which answers by HTTP and logs


@pytest.mark.parametrize("program", COMMANDS)
def test_every_help_has_examples_that_the_parser_takes_and_ends_with_the_exit_codes(program: str):
    text = COMMANDS[program].format_help()
    examples = [line.strip() for line in text.partition("\nexamples:\n")[2].splitlines() if line.startswith("  ")]
    assert examples
    for example in examples:
        assert example.startswith(program)
        COMMANDS[program].parse_args(shlex.split(example.removeprefix(program)))
    assert text.splitlines()[-1] == "exit codes: " + ", ".join(f"{code} {text}" for code, text in EXIT_CODES.items())


@pytest.mark.parametrize("program", COMMANDS)
def test_every_flag_says_what_it_is_for_and_what_its_value_is_called(program: str):
    for action in COMMANDS[program]._actions:
        assert action.help, action.dest
        if action.option_strings and action.nargs != 0:
            assert action.metavar or action.choices, action.option_strings


def test_a_programs_help_lists_its_commands_and_has_an_example():
    for parser in parsers():
        if parser.prog not in COMMANDS:
            assert "\ncommands:\n" in parser.format_help()
            assert f"\nexamples:\n  {parser.prog} " in parser.format_help()


@pytest.mark.parametrize("main", MODULES.values())
def test_help_and_wrong_arguments_are_answered_before_anything_heavy_is_imported(main: str):
    lines = ["--help", "--version", *WRONG[main]]
    code = f"import shlex, sys\nfrom {main} import main\n"
    for line in lines:
        code += f"try: print('ended with', main(shlex.split({line!r})))\n"
        code += "except SystemExit as ended: print('ended with', ended.code)\n"
    code += f"print('loaded', [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith(("ended with", "loaded"))]
    assert told == ["ended with 0", "ended with 0", *["ended with 2"] * len(WRONG[main]), "loaded []"]
    assert f"carla-mlflow {__version__} (commit " in done.stdout


def test_the_version_of_a_policy_is_told_from_the_version_of_the_program(capsys: pytest.CaptureFixture[str]):
    for program, line in (
        ("carla-export", "x --version 1.2.0"),
        ("carla-registry migrate", "v1 --observation a --output b --version 1.2.0"),
    ):
        assert COMMANDS[program].parse_args(line.split()).version == "1.2.0"
        with pytest.raises(SystemExit) as ended:
            COMMANDS[program].parse_args(["--version"])
        assert (ended.value.code, capsys.readouterr().out.startswith(f"carla-mlflow {__version__} (commit ")) == (
            0,
            True,
        )


def test_an_unknown_flag_is_refused_by_the_command_that_got_it(capsys: pytest.CaptureFixture[str]):
    program = next(parser for parser in parsers() if parser.prog == "carla-registry")
    with pytest.raises(SystemExit) as ended:
        program.parse_args(["list", "--no-such-flag"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "carla-registry list: error: unrecognized arguments: --no-such-flag",
        "see carla-registry list --help",
    ]


def test_a_mistyped_flag_is_refused_with_the_flag_that_was_meant(capsys: pytest.CaptureFixture[str]):
    program = next(parser for parser in parsers() if parser.prog == "carla-registry")
    with pytest.raises(SystemExit):
        program.parse_args(["promote", "mine@1.0.0", "--to", "production", "--baek", "1m", "--resaon=x"])
    assert capsys.readouterr().err.splitlines()[0] == (
        "carla-registry promote: error: unrecognized arguments: --baek 1m --resaon=x; did you mean --bake, --reason?"
    )


@pytest.mark.parametrize(
    "line",
    [
        "guard mine --servers {}",
        "compare mine@1.0.0 mine@1.1.0 --from {}",
        "promote mine@1.0.0 --to staging --servers {}",
    ],
)
def test_commands_that_ask_servers_take_a_unix_socket(line: str):
    program = next(parser for parser in parsers() if parser.prog == "carla-registry")
    options = program.parse_args(line.format("unix:/run/policy.sock http://car-1:8080").split())
    assert options.servers == ["unix:/run/policy.sock", "http://car-1:8080"]


def test_a_socket_on_another_host_is_no_address_of_a_server(capsys: pytest.CaptureFixture[str]):
    program = next(parser for parser in parsers() if parser.prog == "carla-registry")
    with pytest.raises(SystemExit):
        program.parse_args(["guard", "mine", "--servers", "unix://car-1/policy.sock"])
    assert "a Unix socket is on no host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "hint"), [("repaly", "did you mean replay?"), ("mine@production", "to serve it: --model mine@production")]
)
def test_a_word_that_carla_serve_does_not_know_is_answered_with_what_was_meant(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        parse_settings([word])
    assert capsys.readouterr().err.splitlines()[0].endswith(f"is neither a flag nor score or replay; {hint}")


def test_wrong_arguments_are_refused_in_two_lines(capsys: pytest.CaptureFixture[str]):
    parser = parser_of("carla-registry promote")
    assert isinstance(parser, CommandParser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["mine@1.0.0"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "carla-registry promote: error: the following arguments are required: --to",
        "see carla-registry promote --help",
    ]
