"""python -m benchmarks.scoring [--rows 1000000 --spark --ray]: offline scoring of observations, by different tools.

Writes a Parquet file of observations and scores it by `python -m serve score`, and optionally by Spark's UDF of the
logged model and by Ray Data. Prints rows/s with the start included, the largest memory of the scoring process and its
children, and whether every action has the engine's bits; exits with 1 when one has not. A run with a tenth of the rows
and one with all give each tool's start and speed, and from those the number of rows from which a cluster of machines
like this one finishes sooner than one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.support.command_line import EXAMPLE, parser_of
from benchmarks.support.processes import pss_mb
from benchmarks.support.server import BIN
from benchmarks.support.table import Column, Table
from carla_mlflow import Engine
from carla_mlflow.contract.control_kinds import CONTROL_NAMES

SPARK = """
import sys, mlflow
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
uri, source, output = sys.argv[1:]
spark = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false").getOrCreate()
kinds = "throttle double, brake double, steer double"
act = mlflow.pyfunc.spark_udf(spark, uri, result_type=kinds, env_manager="local")
rows = spark.read.parquet(source)
rows.withColumn("action", act(struct("speed", "steering", "sensors"))).select("row", "action.*").write.parquet(output)
"""
COLUMNS = (Column("rows", 12, ","), Column("seconds", 10, ".1f"), Column("rows/s", 12, ",.0f"), Column("MB", 8, ".0f"))
TABLE = Table("", 14, COLUMNS)
ONE_MACHINE = "serve score"
MACHINES = (2, 4, 8, 16, 32, 64)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--spark", action="store_true", help="also score by Spark (needs Java 17)")
    parser.add_argument("--ray", action="store_true", help="also score by Ray Data, on this machine")
    options = parser.parse_args()
    TABLE.print_heading("   same bits")
    took: dict[str, list[float]] = {}
    sizes = [options.rows // 10, options.rows]
    failed = False
    for rows in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            failed |= score(rows, options, Path(scratch), took)
    tell_what_pays(sizes, took)
    return int(failed)


def score(rows: int, options, folder: Path, took: dict[str, list[float]]) -> bool:
    """Scores `rows` rows with each tool, prints a line each, adds to `took`; returns whether any action differed."""
    engine = Engine.open(EXAMPLE, device="cpu")
    rng = np.random.default_rng(0)
    observations = {spec.name: spec.sample(rng, rows) for spec in engine.specs}
    wanted = engine.act(observations).control
    doubles = {name: pa.array(list(array.astype(np.float64))) for name, array in observations.items()}
    pq.write_table(pa.table({"row": np.arange(rows), **doubles}), folder / "in.parquet")
    failed = False
    for name, command, environment in ways(options, folder):
        began = time.perf_counter()
        peak = run(command, environment)
        seconds = time.perf_counter() - began
        took.setdefault(name, []).append(seconds)
        same = actions(folder / name) == wanted.tobytes()
        failed |= not same
        TABLE.print_row(name, rows, seconds, rows / seconds, peak, note=f"   {same}")
    return failed


def tell_what_pays(sizes: list[int], took: dict[str, list[float]]) -> None:
    """Prints each tool's start and speed, and when a cluster is sooner, if it divides the work without loss."""
    figures = {}
    for name, (few_s, all_s) in took.items():
        speed = (sizes[1] - sizes[0]) / (all_s - few_s)
        figures[name] = start, speed = few_s - sizes[0] / speed, speed
        print(f"{name}: {start:.1f} s to start, then {speed:,.0f} rows/s")
    one_start, one_speed = figures.pop(ONE_MACHINE)
    for name, (start, speed) in figures.items():
        for machines in MACHINES:
            saved = 1 / one_speed - 1 / (machines * speed)
            since = f"from {(start - one_start) / saved:,.0f} rows on" if saved > 0 else "never"
            print(f"{name} on {machines} machines like this is sooner than {ONE_MACHINE} on one: {since}")


def ways(options, folder: Path):
    """Yields each tool's name, command and environment."""
    source = str(folder / "in.parquet")
    score = [sys.executable, "-m", "serve", "score", "--model", str(EXAMPLE), "--input", source, "--keep", "row"]
    yield ONE_MACHINE, [*score, "--output", str(folder / ONE_MACHINE)], {}
    if options.ray:
        yield "Ray Data", [*score, "--output", str(folder / "Ray Data"), "--ray", "local"], {"RAY_DEDUP_LOGS": "0"}
    if options.spark:
        env = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "POLICY_CACHE_DIR": str(folder / "cache")}
        register = [str(BIN / "carla-registry"), "register", str(EXAMPLE), "--name", "mine"]
        subprocess.run(register, env={**os.environ, **env}, check=True, capture_output=True)
        env |= {"PYSPARK_PYTHON": sys.executable}
        yield "Spark UDF", [sys.executable, "-c", SPARK, "models:/mine/1", source, str(folder / "Spark UDF")], env


def run(command: list[str], environment: dict[str, str]) -> float:
    """Runs a command; returns the most memory, MB of PSS, that it and its children held at once."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    most = [0.0]

    def watch() -> None:
        while process.poll() is None:
            most[0] = max(most[0], sum(pss_mb(process.pid)))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    _, told = process.communicate()
    if process.returncode:
        raise SystemExit(told[-3000:])
    return most[0]


def actions(path: Path) -> bytes:
    """The scored actions in the order of the rows, as bytes of float32 (rows, 3)."""
    table = pq.read_table(path).sort_by("row")
    return np.stack([table[name].to_numpy() for name in CONTROL_NAMES], axis=1).astype(np.float32).tobytes()


if __name__ == "__main__":
    sys.exit(main())
