"""Runs a small graph with a backend on each of its devices; the main program of a child process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from carla_mlflow.own_process import write_values


def works(backend: str) -> Iterator[str]:
    """Yields the backend's version, and each device with which twice two is four.

    Args:
        backend: onnx, torchscript or openvino.

    Raises:
        RuntimeError: a device computes something else.
    """
    yield from {"onnx": _onnx, "torchscript": _torchscript, "openvino": _openvino}[backend]()


def _square() -> bytes:
    """A model in ONNX that multiplies `x` by itself."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])

    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "square", [value("x")], [value("y")])
    written: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return written


def _openvino() -> Iterator[str]:
    from carla_mlflow.backends.openvino_model import OpenVinoBackend, ov

    yield f"openvino {ov.__version__.partition('-')[0]}"
    _check(OpenVinoBackend(_square(), ("x",), ("y",))([np.full(1, 2, np.float32)])[0][0])
    yield "cpu"


def _onnx() -> Iterator[str]:
    import onnxruntime as ort

    model = _square()
    yield f"onnxruntime {ort.__version__}"
    for provider in ort.get_available_providers():
        if provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
            session = ort.InferenceSession(model, providers=[provider])
            if provider in session.get_providers():  # without a device it silently takes another
                _check(session.run(None, {"x": np.full(1, 2, np.float32)})[0][0])
                yield provider.removesuffix("ExecutionProvider").lower()


def _torchscript() -> Iterator[str]:
    import torch

    yield f"torch {torch.__version__}"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device in ("cpu", *(f"cuda:{number}" for number in range(count))):
        two = torch.full((1, 1), 2.0, device=device)
        _check(float(two @ two))
        yield device


def _check(four: float) -> None:
    if four != 4.0:
        raise RuntimeError(f"twice two is {four}")


if __name__ == "__main__":
    sys.exit(write_values(lambda: works(sys.argv[1])))
