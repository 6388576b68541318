"""What the shadow's process may take: seen in a process that restricts itself, and in its child."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SEEN = """
import json, os, resource, subprocess, sys
from serve.shadow.restrict import restrict
if len(sys.argv) > 1:
    restrict(float(sys.argv[1]))
data = resource.getrlimit(resource.RLIMIT_DATA)[0]
core = resource.getrlimit(resource.RLIMIT_CORE)[0]
score = open("/proc/self/oom_score_adj").read().strip()
mine = [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), int(score), data, core]
child = None
if len(sys.argv) > 1:
    child = json.loads(subprocess.check_output([sys.executable, "-c", sys.stdin.read()]))["mine"]
print(json.dumps({"mine": mine, "child": child}))
"""


def test_it_and_its_children_are_the_last_to_run_and_the_first_to_be_killed():
    done = subprocess.run([sys.executable, "-c", SEEN, "300"], input=SEEN, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["mine"] == [19, os.SCHED_IDLE, 1000, 900_000_000, 0]
    assert found["child"] == found["mine"]


def test_what_it_reserves_beyond_its_limit_it_does_not_get():
    code = "from serve.shadow.restrict import restrict; restrict(100); bytearray(500_000_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_importing_it_loads_nothing_that_takes_time():
    heavy = ("numpy", "msgspec", "torch", "mlflow")
    code = f"import serve.shadow.start, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
