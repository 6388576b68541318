"""python -m benchmarks.parity: how far each exported architecture is from the trained policy, on every backend."""

from __future__ import annotations

from benchmarks.policies.architectures import ARCHITECTURES
from benchmarks.support.command_line import parser_of
from benchmarks.support.table import Column, Table
from training_export.export.export import export_policy

BACKENDS = ("torchscript", "onnx", "openvino")
OBSERVATIONS = Column("observations", 13, ",")
TABLE = Table("largest |exported - trained|", 42, (OBSERVATIONS, *(Column(name, 13) for name in BACKENDS)))


def main() -> None:
    parser_of(__doc__).parse_args()
    TABLE.print_heading()
    for label, build in ARCHITECTURES.items():
        exported = export_policy(build(), "parity", "0.0.0", label)
        found = {name: f"{value:.1e}" for name, value in exported.differences.items()} | exported.left_out
        TABLE.print_row(label, exported.rows, *(found[backend] for backend in BACKENDS))


if __name__ == "__main__":
    main()
