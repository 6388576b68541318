"""What a command imports is not looked through for garbage again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Registered before, so it runs after what the command registers.
WATCHED = """\
import atexit, gc, sys
from pathlib import Path
told = Path(sys.argv.pop(1))
atexit.register(lambda: told.write_text(f"{gc.get_freeze_count()} {gc.get_threshold()[0]}"))
from registry.__main__ import main
code = main()
assert gc.isenabled() and gc.get_freeze_count() == 0
sys.exit(code)
"""


@pytest.mark.parametrize("command", [["list"], ["show", "nobody@1.0.0"]])
def test_a_command_collects_less_often_and_at_its_end_nothing_that_it_imported(mlflow_home: Path, command: list[str]):
    told = mlflow_home / "told"
    done = subprocess.run([sys.executable, "-c", WATCHED, str(told), *command], capture_output=True, text=True)
    frozen, threshold = map(int, told.read_text().split())
    assert (done.returncode, threshold) == (int(command != ["list"]), 10_000), done.stderr
    assert frozen > 100_000
