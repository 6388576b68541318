"""On a terminal a command says what it does before it imports what takes seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import EXAMPLE

HEAVY = re.compile(rb"\|\s+(mlflow|torch|pandas|onnxruntime|sklearn|matplotlib|pyarrow)\b")
"""As Python reports the import of a module."""
LINES = {
    "registry": [
        "list",
        "show x@1.0.0",
        "resolve x@1.0.0",
        "history x",
        "promote x@1.0.0 --to staging",
        "rollback x",
        "archive x@1.0.0",
        "gates x",
        "describe x",
        "watch x",
        "guard x --servers http://localhost:1",
        "compare x@1.0.0 x@2.0.0 --from http://localhost:1",
        f"register {EXAMPLE}",
    ],
    "training_export": ["train", "evaluate x@1.0.0", "drive --url http://localhost:1"],
    "training_export.export_command": ["runs:/latest --dry-run"],
    "carla_mlflow.testing": [str(EXAMPLE)],
    "carla_agent": ["drive --model x@1.0.0"],
}


@pytest.mark.parametrize("line", [f"{module} {line}" for module, lines in LINES.items() for line in lines])
def test_the_first_word_comes_before_heavy_imports(new_home: Path, line: str):
    if line.startswith("carla_agent"):
        pytest.importorskip("carla")
    screen, terminal = os.openpty()
    command = [sys.executable, "-X", "importtime", "-m", *line.split()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while "…".encode() not in seen and not HEAVY.search(seen):
            seen += os.read(screen, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
    before = seen.partition("…".encode())[0]
    assert not HEAVY.search(before), before[-300:]
