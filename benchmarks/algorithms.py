"""python -m benchmarks.algorithms: how far every algorithm's exported policy is from its library's own predict."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from benchmarks.policies.algorithms import CASES, untrained
from benchmarks.support.command_line import parser_of
from benchmarks.support.table import Column, Table
from carla_mlflow.contract.field_card import observation_spec
from carla_mlflow.inference.engine import Engine
from training_export.export.export import export_policy

BACKENDS = ("torchscript", "onnx", "openvino")
ROWS = 1000
TABLE = Table("algorithm, observation", 24, (Column("observations", 13, ","), *(Column(name, 13) for name in BACKENDS)))


def differences(algorithm: str, observation: str, rows: int) -> dict[str, float]:
    """Backend → the largest |exported - predict(deterministic=True)| of a raw action, on drawn observations."""
    policy = untrained(algorithm, observation)
    rng = np.random.default_rng(7)
    drawn = {}
    for spec in observation_spec(policy.trained.observation):
        drawn[spec.name] = np.concatenate([spec.sample(rng, rows // 2), spec.corners(rng, rows - rows // 2)])
    if policy.trained.valid is not None:
        drawn = policy.trained.valid(drawn)
    wanted = policy.predict(drawn)
    exported = export_policy(policy.trained, "algorithms", "0.0.0", f"{algorithm}, {observation}")
    return {name: _largest(engine, drawn, wanted) for name, engine in exported.engines.items()}


def _largest(engine: Engine, drawn: dict[str, np.ndarray], wanted: np.ndarray) -> float:
    return float(np.abs(engine.act(drawn).raw - wanted).max())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", help="one algorithm, such as TQC")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    TABLE.print_heading()
    for algorithm, observation in CASES:
        if only in (None, algorithm):
            found = differences(algorithm, observation, ROWS)
            cells = [f"{found[name]:.1e}" if name in found else "left out" for name in BACKENDS]
            TABLE.print_row(f"{algorithm}, {observation}", ROWS, *cells)


if __name__ == "__main__":
    main()
