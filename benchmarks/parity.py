"""python -m benchmarks.parity: how far each exported architecture is from the trained policy, on both backends."""

from __future__ import annotations

from benchmarks.architectures import ARCHITECTURES
from benchmarks.command_line import parser_of
from training_export.export.export import export_policy


def main() -> None:
    parser_of(__doc__).parse_args()
    print(f"{'largest |exported - trained|':42}{'observations':>13}{'torchscript':>13}{'onnx':>13}")
    for label, build in ARCHITECTURES.items():
        exported = export_policy(build(), "parity", "0.0.0", label)
        found = {name: f"{value:.1e}" for name, value in exported.differences.items()} | exported.left_out
        print(f"{label:42}{exported.rows:>13,}{found['torchscript']:>13}{found['onnx']:>13}", flush=True)


if __name__ == "__main__":
    main()
