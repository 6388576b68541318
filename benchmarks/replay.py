"""python -m benchmarks.replay [--rows 1000000 --lerobot FOLDER --mcap FOLDER]: recordings of a server, replayed.

A server records answers to requests of many rows, which are then replayed: every bit has to be the same again. Then one
byte of a file is flipped, and the replay has to name that file. With --lerobot and --mcap, folders into which
`pip install --target` has put these packages (lerobot without its dependencies, and of those what its reader imports),
the exports are opened by the real readers, and every frame is held against the recording. Exits with 1 when something
is not as it has to be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.support.command_line import EXAMPLE, parser_of
from benchmarks.support.connection import Connection
from benchmarks.support.encoding import rows_of
from benchmarks.support.our_server import OurServer
from benchmarks.support.requests import http_request
from carla_mlflow import open_artifact
from serve.record.files import Recordings, open_recordings

ROWS, STEPS = 250, 100
"""Rows of a request, each a car of its own, and requests of an episode."""
READ_LEROBOT = """
import sys, torch
ops = torch.library.Library("torchvision", "DEF")  # torchvision made for CUDA does not load beside a torch without it
for name in ("nms", "qnms"):
    ops.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset("local/replay", root=sys.argv[1], delta_timestamps={"action": [0.0, 0.1]})
for place in np.random.default_rng(0).integers(0, len(data), 100):
    item = data[int(place)]
    assert item["action"].shape[0] == 2 and item["episode_index"] >= 0 and item["task"], item
frames = data.hf_dataset.with_format("arrow")[:]
action = frames["action"].combine_chunks().flatten().to_numpy().reshape(len(frames), -1)
np.savez(sys.argv[2], action=action, time=frames["time_ns"].to_numpy(), episodes=data.num_episodes)
"""
READ_MCAP = """
import json, sys
import numpy as np
from mcap.reader import make_reader
with open(sys.argv[1], "rb") as file:
    found = [(m.log_time, json.loads(m.data)) for _, c, m in make_reader(file).iter_messages(topics=["/action"])]
names = ("throttle", "brake", "steer")
action = np.array([[message[name] for name in names] for _, message in found], np.float32)
np.savez(sys.argv[2], action=action, time=np.array([when for when, _ in found]), episodes=0)
"""


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--lerobot", type=Path, metavar="FOLDER", help="where lerobot and what it imports lie")
    parser.add_argument("--mcap", type=Path, metavar="FOLDER", help="where mcap lies")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "recordings"
        record(folder, options.rows)
        recordings = open_recordings(folder)
        size = sum(file.path.stat().st_size for file in recordings.files)
        print(
            f"{recordings.rows:,} rows in {len(recordings.files)} files of {size / 1e6:.0f} MB, {recordings.lost} lost"
        )
        problems = [*same_bits(folder, options.rows - recordings.lost), *exports(recordings, options, Path(scratch))]
        problems += flipped(recordings)
    for problem in problems:
        print(f"FAILED  {problem}")
    return 1 if problems else 0


def record(folder: Path, rows: int) -> None:
    """Has a server record so many rows, in requests that name episodes."""
    specs = open_artifact(EXAMPLE).card.observation_spec
    rng = np.random.default_rng(0)
    bodies = [
        json.dumps({"observations": rows_of({spec.name: spec.sample(rng, ROWS) for spec in specs})}).encode()
        for _ in range(16)
    ]
    with OurServer("--model", str(EXAMPLE), "--record", str(folder)) as server, Connection(server.port) as connection:
        for number in tqdm(range(rows // ROWS), unit="request", disable=None):
            named = {"X-Episode-Id": f"drive-{number // STEPS}"}
            request = http_request("/predict", bodies[number % len(bodies)], "application/json", **named)
            assert connection.ask(request).status == 200


def replay(folder: Path, *flags: str, path: Path | None = None) -> tuple[int, str, str, float]:
    """Runs the command; returns its exit code, what it printed, its errors, and the seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "serve", "replay", str(folder), "--artifacts", str(EXAMPLE), *flags]
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout, done.stderr, time.perf_counter() - began


def same_bits(folder: Path, rows: int) -> list[str]:
    """Replays all rows; returns what is not as it has to be."""
    code, out, err, seconds = replay(folder, "--json")
    if code:
        return [f"replay ended with {code}: {err or out}"]
    [again] = json.loads(out)["again"]
    print(f"replayed: {again['equal']:,} of {again['rows']:,} rows have the same bits, in {seconds:.1f} s")
    return [] if again["equal"] == again["rows"] == rows else [f"{again['equal']} of {rows} rows have the same bits"]


def flipped(recordings: Recordings) -> list[str]:
    """Flips one bit of one file; returns what is not as it has to be."""
    path = recordings.files[len(recordings.files) // 2].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, _, err, seconds = replay(recordings.folder)
    print(f"one bit flipped: exit code {code} in {seconds:.1f} s: {err.strip()}")
    return [] if code == 1 and str(path) in err else ["the damaged file was not named"]


def exports(recordings: Recordings, options: object, scratch: Path) -> list[str]:
    """Exports the rows, and opens them with the real readers; returns what is not as it has to be."""
    problems = []
    kinds = (("lerobot", READ_LEROBOT, "drives"), ("mcap", READ_MCAP, "drives.mcap"))
    for kind, script, name in kinds:
        packages: Path | None = getattr(options, kind)
        if packages is None:
            continue
        written, found = scratch / name, scratch / f"{kind}.npz"
        code, out, err, seconds = replay(recordings.folder, f"--{kind}", str(written), path=packages)
        if code:
            problems.append(f"--{kind} ended with {code}: {err or out}")
            continue
        print(f"{kind}: {out.strip().splitlines()[-1]}, in {seconds:.1f} s")
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(scratch / "hf")}
        environment = {**os.environ, **offline, "PYTHONPATH": str(packages)}
        subprocess.run([sys.executable, "-c", script, str(written), str(found)], check=True, env=environment)
        problems += differing(recordings, found, kind)
    return problems


def differing(recordings: Recordings, found: Path, kind: str) -> list[str]:
    """Holds what a reader read against the recording, times and actions, in any order."""
    times, actions = [], []
    for batch in recordings.batches(columns=["timestamp", "action"]):
        times.append(batch.column("timestamp").cast("int64").to_numpy())
        actions.append(batch.column("action").flatten().to_numpy().reshape(len(batch), -1))
    wanted = _sorted(np.concatenate(times), np.concatenate(actions))
    with np.load(found) as read:
        got = _sorted(read["time"], read["action"])
        of = f" of {int(read['episodes']):,} episodes" if read["episodes"] else ""
        print(f"{kind}: the real reader has {len(got):,} frames{of}")
    return [] if wanted.tobytes() == got.tobytes() else [f"{kind}: the reader has other times or actions"]


def _sorted(times: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Times and the bits of actions as rows, sorted."""
    bits = np.ascontiguousarray(actions, np.float32).view(np.uint32).astype(np.int64)
    rows = np.column_stack([times.astype(np.int64), bits])
    return rows[np.lexsort(rows.T[::-1])]


if __name__ == "__main__":
    sys.exit(main())
