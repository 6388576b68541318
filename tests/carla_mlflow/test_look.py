"""What commands print: tables, colours on terminals only, times, sizes, and what --quiet and --json leave."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from carla_mlflow import progress_lines
from carla_mlflow.cli import run_command
from carla_mlflow.command_parser import CommandParser, add_common
from carla_mlflow.look import ago, bar, has_colours, progress, say_next, show, showing, size, styled, table, warn


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Standard output and error are a terminal meanwhile; pytest captures them anew when a test begins."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        yield terminal


def noisy(options: argparse.Namespace) -> int:
    progress("thinking")
    warn("it is late")
    print("found 3")
    show(options.json, "three", {"found": 3})
    say_next("carla-registry list")
    return 0


def run(*flags: str) -> int:
    parser = CommandParser("noisy")
    add_common(parser)
    parser.set_defaults(run=noisy)
    return run_command(parser, flags)


def test_columns_are_aligned_and_what_somebody_typed_is_escaped():
    assert table([("NAME", "N"), ("a\nb", "10"), ("c", "7")]) == "NAME  N\na\\nb  10\nc     7"
    assert table([("", "a"), ("x", "10"), ("long", "7")], right=True) == "       a\nx     10\nlong   7"


def test_a_terminal_gets_colours_unless_its_reader_refuses_them(monkeypatch: pytest.MonkeyPatch):
    with on_terminal(monkeypatch) as terminal:
        assert styled("ok", "good") == "\x1b[32mok\x1b[0m"
        assert table([("NAME",), ("a",)]) == "\x1b[1mNAME\x1b[0m\na"
        monkeypatch.setenv("NO_COLOR", "1")
        assert styled("ok", "good") == "ok"
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert not has_colours(terminal)
    assert not has_colours(io.StringIO())


def test_a_text_keeps_its_styles_and_nothing_else_that_moves_a_terminal(monkeypatch: pytest.MonkeyPatch):
    with on_terminal(monkeypatch) as terminal:
        show(False, f"{styled('ok', 'good')} a\x1b[2Jb", None)
    assert terminal.getvalue() == "\x1b[32mok\x1b[0m a\\x1b[2Jb\n"


def test_a_file_gets_no_styles_whoever_wrote_them(capsys: pytest.CaptureFixture[str]):
    show(False, "\x1b[32mok", None)
    assert capsys.readouterr().out == "\\x1b[32mok\n"


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (0, "just now"),
        (1, "1 second ago"),
        (119, "1 minute ago"),
        (7_300, "2 hours ago"),
        (86_400 * 1_500, "1,500 days ago"),
        (-5, "just now"),
        (-7_200, "in the future"),
    ],
)
def test_times_are_told_by_how_long_ago_they_were(passed: float, words: str):
    assert ago(1e9 - passed, now=1e9) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (5e9, "5.0 GB"),
        (7.2e15, "7,200.0 TB"),
    ],
)
def test_sizes_are_told_in_words(count: float, words: str):
    assert size(count) == words


def test_a_command_prints_what_it_finds_and_what_comes_next(capsys: pytest.CaptureFixture[str]):
    assert run() == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("found 3\nthree\nnext: carla-registry list\n", "warning: it is late\n")


def test_with_json_standard_output_has_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    assert run("--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"found": 3}
    assert told.err == "warning: it is late\nfound 3\n"


@pytest.mark.parametrize(("flags", "out"), [(["--quiet"], ""), (["--quiet", "--json"], '{"found": 3}\n')])
def test_quiet_leaves_errors_and_json_alone(flags: list[str], out: str, capsys: pytest.CaptureFixture[str]):
    assert run(*flags) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == (out, "")
    warn("and the next command is not quiet")
    assert "warning" in capsys.readouterr().err


def test_a_quiet_command_tells_its_error(capsys: pytest.CaptureFixture[str]):
    def fail(_: argparse.Namespace) -> int:
        raise FileNotFoundError(2, "No such file", "x.csv")

    parser = CommandParser("failing")
    add_common(parser)
    parser.set_defaults(run=fail)
    assert run_command(parser, ["--quiet"]) == 1
    assert capsys.readouterr().err == "failing: x.csv: No such file\n"


def test_a_log_file_has_no_bar(capsys: pytest.CaptureFixture[str]):
    assert list(bar("driving", 3, "episode", range(3), delay=0)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_log_file_has_a_line_of_what_takes_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(progress_lines, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with bar("training", 100_000, "step", initial=50_000) as shown:
        for _ in range(9):
            now[0] += progress_lines.EVERY_S / 4
            shown.set_postfix_str("reward 12")
            shown.update(1000)
            shown.refresh()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "training: 53,000 of 100,000 steps, reward 12",
        "training: 57,000 of 100,000 steps, reward 12",
    ]
    assert all(line.endswith(" s left") for line in lines)


def test_a_quiet_command_has_no_such_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress_lines, "EVERY_S", 0.0)
    with showing(quiet=True, as_json=False), bar("driving", 3, "episode") as shown:
        shown.update()
        shown.refresh()
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar_for_what_takes_long(monkeypatch: pytest.MonkeyPatch):
    with on_terminal(monkeypatch) as terminal:
        assert list(bar("driving", 3, "episode", range(3), delay=0)) == [0, 1, 2]
    assert "driving" in terminal.getvalue()
    with on_terminal(monkeypatch) as terminal:
        assert list(bar("driving", 3, "episode", range(3), delay=3600)) == [0, 1, 2]
    assert "driving" not in terminal.getvalue()
