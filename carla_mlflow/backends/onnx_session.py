"""model.onnx: ONNX Runtime, one thread per call, on the CPU or a CUDA device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import ArtifactError, DeviceError
from .backend import Arrays, aligned
from .native_errors import native_error, reason_of
from .onnx_checks import checked_model

ort.set_default_logger_severity(3)  # errors only; its warnings name nodes that mean nothing to users
ort.disable_telemetry_events()  # for processes that imported it before this package set its variable


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Lets sessions that are made inside log nothing, for a graph that may fail: its exception says it too."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(3)


class OnnxBackend:
    """See Backend."""

    name = "onnx"
    out_of_memory: type[Exception] = MemoryError

    def __init__(self, graph: bytes, device: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        graph = checked_model(graph)
        self._inputs, self._outputs = inputs, outputs
        try:
            # From bytes, not from a path, so that there is no folder in which files named by the model could lie.
            # No fallback: it would load the graph on another device than the chosen one, and print a message.
            self._session = ort.InferenceSession(graph, _options(), providers=_providers(device), enable_fallback=0)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            raise ArtifactError(f"model.onnx: not a policy in ONNX: {reason_of(error)}") from error
        if device.startswith("cuda") and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(f"ONNX Runtime can't use {device} here; its own log says what is missing")
        found = [value.name for value in self._session.get_inputs()], [v.name for v in self._session.get_outputs()]
        if (sorted(found[0]), found[1]) != (sorted(inputs), list(outputs)):
            raise ArtifactError(
                f"model.onnx: takes {', '.join(found[0])} and gives {', '.join(found[1])}, but the card says "
                f"{', '.join(inputs)} and {', '.join(outputs)}"
            )

    def __call__(self, inputs: Arrays) -> Arrays:
        feeds = dict(zip(self._inputs, inputs, strict=True))
        try:
            outputs: Arrays = self._session.run(None, feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            raise native_error(error) from error
        return outputs

    def allocate(self, count: int, dtype: str) -> NDArray[Any]:
        return aligned(count, dtype)

    def bind(self, inputs: Arrays) -> _Bound:
        # Calls the graph once, for the widths of its outputs: the graph's own rather than the card's.
        return _Bound(self._session, dict(zip(self._inputs, inputs, strict=True)), self._outputs, self(inputs))


class _Bound:
    """ONNX Runtime gets the buffers' addresses once, and writes the outputs into buffers of ours."""

    def __init__(self, session: Any, inputs: dict[str, NDArray[Any]], outputs: tuple[str, ...], like: Arrays) -> None:
        self._names = list(inputs)
        self._inputs = list(inputs.values())  # keeps the memory alive
        self._outputs = [aligned(array.size, "float32").reshape(array.shape) for array in like]
        self._binding = session.io_binding()
        for index, array in enumerate(self._inputs):
            self.replace(index, array)
        for name, array in zip(outputs, self._outputs, strict=True):
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        self._session = session

    def replace(self, index: int, array: NDArray[Any]) -> None:
        self._inputs[index] = array
        self._binding.bind_input(self._names[index], "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> Arrays:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            raise native_error(error) from error
        return self._outputs


def _options() -> Any:
    options = ort.SessionOptions()
    # One thread, as for torch: requests run in parallel, and no thread spins while it waits.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not its own format, which is unchecked
    return options


def _providers(device: str) -> list[Any]:
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
