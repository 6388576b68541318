"""What somebody typed is shown as what it is, and does nothing."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import escaped, one_line

ANSI, FORGED, TURNED = "\x1b[2J", "good\n   9  entry", "a\u202eb"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("brakes earlier, größer → 3 km/h ✓", "brakes earlier, größer → 3 km/h ✓"),
        (ANSI, r"\x1b[2J"),
        (FORGED, r"good\n   9  entry"),
        (TURNED, r"a\u202eb"),
        ("\r\t\x07\x9b\u2028\u2066\u200b\udc80", r"\r\t\x07\x9b\u2028\u2066\u200b\udc80"),
    ],
)
def test_what_is_not_printable_is_written_out(text: str, shown: str):
    assert escaped(text) == shown
    assert escaped(text, keep="\n").replace("\n", r"\n") == shown


@given(st.text(st.characters()))
def test_whatever_is_shown_is_one_printable_line(text: str):
    assert escaped(text).isprintable()
    escaped(text).encode()
    assert escaped(text + "\n", keep="\n").replace("\n", "").isprintable()


def test_an_error_that_tells_what_somebody_typed_is_one_printable_line():
    assert one_line(RefusedError(f"{FORGED} {ANSI}")) == r"good 9 entry \x1b[2J"
    assert one_line(FileNotFoundError(2, "No such file", f"a{ANSI}")) == r"a\x1b[2J: No such file"


def test_a_line_of_the_log_stays_one():
    from serve.telemetry.log_setup import TEXT, Escaping

    record = logging.LogRecord("serve", logging.ERROR, "", 0, "%s is refused", (FORGED + ANSI,), None)
    line = Escaping(TEXT).format(record)
    assert line.endswith(r"serve ERROR good\n   9  entry\x1b[2J is refused")
    assert line.isprintable()
