"""The logged model as a Spark UDF: logged drives scored by Spark, with the engine's actions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from patience import PATIENCE_S
from tests_support import EXAMPLE, missing, registry_here

from carla_mlflow import Engine

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

# A process of its own: Spark's JVM and its sockets end with it.
SCORE = """
import sys
import mlflow
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
uri, source, output = sys.argv[1:]
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "10000")
drives = spark.read.parquet(source)
kinds = "throttle double, brake double, steer double"
act = mlflow.pyfunc.spark_udf(spark, uri, result_type=kinds, env_manager="local")
drives.withColumn("action", act(struct("speed", "steering", "sensors"))).select("row", "action.*").write.parquet(output)
spark.stop()
"""


def test_a_spark_udf_gives_the_engines_actions(tmp_path: Path, tables: Path):
    if shutil.which("java") is None:
        missing("java", "openjdk-17-jre-headless")
    shutil.copy(tables, tmp_path)
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = registry_here("register", str(EXAMPLE), "--name", "mine", env=env)
    assert done.code == 0, done.err
    engine = Engine.open(EXAMPLE, device="cpu")
    rng = np.random.default_rng(0)
    observations = {spec.name: spec.sample(rng, 5000) for spec in engine.specs}
    doubles = {name: pa.array(array.astype(np.float64).tolist()) for name, array in observations.items()}
    pq.write_table(pa.table({"row": np.arange(5000), **doubles}), tmp_path / "in.parquet")
    command = [sys.executable, "-c", SCORE, "models:/mine/1", str(tmp_path / "in.parquet"), str(tmp_path / "out")]
    given = {**os.environ, **env, "PYSPARK_PYTHON": sys.executable, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=given, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-3000:]
    scored = pq.read_table(tmp_path / "out").sort_by("row")
    control = np.stack([scored[name].to_numpy() for name in ("throttle", "brake", "steer")], axis=1).astype(np.float32)
    assert control.tobytes() == engine.act(observations).control.tobytes()
