"""model.onnx in OpenVINO: the CPU alone, one thread per call, float32.

Every batch shape is compiled for itself: a graph of fixed shape takes half to nine tenths of the time of one of any
shape, and has all of its memory before the first run. (One of any shape that runs out of memory returns the outputs of
the run before, without an error.) Each Bound has a compiled graph of its own, since one lets only one thread in at a
time.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from .backend import Arrays, aligned
from .native_errors import native_error, reason_of
from .onnx_checks import checked_model


def _import_openvino() -> Any:
    """OpenVINO without `openvino.tools`, which reports every import to its maker and leaves an id in the home.

    OpenVINO itself imports it, and goes on where that fails.
    """
    tools = "openvino.tools"
    if tools in sys.modules or "openvino" in sys.modules:  # somebody else's import
        return importlib.import_module("openvino")
    sys.modules[tools] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[tools]


ov = _import_openvino()

OPTIONS = {
    "INFERENCE_PRECISION_HINT": "f32",  # where the processor has AMX, the default is bfloat16
    # One thread, the caller's, as for torch. With more streams a run would change to a thread of OpenVINO's.
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "ENABLE_CPU_PINNING": False,  # several workers would be bound to the same core
}
_NOISE = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "Summary:")
_UNWRITTEN = 0x7FC0DEAD
"""The bits of a NaN that no arithmetic gives: an output that still holds it was not written."""


class OpenVinoBackend:
    """See Backend."""

    name = "openvino"
    out_of_memory: type[Exception] = MemoryError

    def __init__(self, graph: bytes, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Reads model.onnx; `inputs` and `outputs` are the card's names, in order."""
        graph = checked_model(graph)
        try:
            # From bytes, not from a path, so that there is no folder in which files named by the model could lie.
            self._model = _core().read_model(graph, b"")
            _check_names(self._model, inputs, outputs)
            self._any_shape = _compile(self._model).create_infer_request()
        except RuntimeError as error:
            raise ArtifactError(f"model.onnx: not a policy that OpenVINO runs: {reason_of(error, _NOISE)}") from error
        used = set().union(*(port.get_names() for port in self._model.inputs))  # not those that no output depends on
        self._inputs = tuple((index, name) for index, name in enumerate(inputs) if name in used)
        self._lock = threading.Lock()

    def __call__(self, inputs: Arrays) -> Arrays:
        tensors = {name: _tensor(inputs[index]) for index, name in self._inputs}
        with self._lock:
            try:
                self._any_shape.infer(tensors, share_outputs=True)
                outputs = [np.array(tensor.data) for tensor in self._any_shape.output_tensors]
            except RuntimeError as error:
                raise native_error(error, _NOISE) from error
        rows = [output.shape[0] if output.ndim else 0 for output in outputs]
        if any(count != len(inputs[0]) for count in rows):
            raise MemoryError(
                f"the graph returned {', '.join(map(str, rows))} rows for {len(inputs[0])}: it has a fixed number of "
                "rows, or memory ran out, which OpenVINO does not say"
            )
        return outputs

    def allocate(self, count: int, dtype: str) -> NDArray[Any]:
        return aligned(count, dtype)

    def bind(self, inputs: Arrays) -> _Bound:
        shapes = {name: ov.PartialShape(list(inputs[index].shape)) for index, name in self._inputs}
        try:
            with self._lock:
                model = self._model.clone()
            model.reshape(shapes)
            return _Bound(_compile(model).create_infer_request(), dict(self._inputs), inputs)
        except RuntimeError as error:
            raise native_error(error, _NOISE) from error


class _Bound:
    """OpenVINO reads the caller's buffers, and writes into buffers of ours."""

    def __init__(self, request: Any, names: dict[int, str], inputs: Arrays) -> None:
        """Runs once, which tells the shapes of the outputs: the graph's own rather than the card's."""
        self._request, self._names = request, names
        self._arrays = list(inputs)  # keeps the memory alive
        for index, array in enumerate(inputs):
            self.replace(index, array)
        request.infer(share_outputs=True)
        shapes = [tuple(tensor.shape) for tensor in request.output_tensors]
        self._outputs = [aligned(int(np.prod(shape)), "float32").reshape(shape) for shape in shapes]
        for index, output in enumerate(self._outputs):
            output.view(np.uint32)[...] = _UNWRITTEN
            request.set_output_tensor(index, ov.Tensor(output, shared_memory=True))
        self.run()
        if any((output.view(np.uint32) == _UNWRITTEN).any() for output in self._outputs):
            raise MemoryError("OpenVINO left an output as it was, as it does when memory runs out")

    def replace(self, index: int, array: NDArray[Any]) -> None:
        self._arrays[index] = array
        if index in self._names:
            self._request.set_tensor(self._names[index], ov.Tensor(array, shared_memory=True))

    def run(self) -> Arrays:
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise native_error(error, _NOISE) from error
        return self._outputs


@functools.cache
def _core() -> Any:
    return ov.Core()


def _compile(model: Any) -> Any:
    return _core().compile_model(model, "CPU", OPTIONS)


def _tensor(array: NDArray[Any]) -> Any:
    """A tensor on the array's memory, or on a copy where OpenVINO would refuse it."""
    array = np.ascontiguousarray(array)
    return ov.Tensor(array, shared_memory=array.flags.writeable)


def _check_names(model: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raises ArtifactError where a graph takes something that the card does not have, or returns something else."""
    taken, given = [port.get_names() for port in model.inputs], [port.get_names() for port in model.outputs]
    fits = all(names & set(inputs) for names in taken) and len(given) == len(outputs)
    if not fits or any(name not in names for name, names in zip(outputs, given, strict=True)):
        found = [", ".join(min(names, default="?") for names in ports) for ports in (taken, given)]
        raise ArtifactError(
            f"model.onnx: takes {found[0]} and gives {found[1]}, but the card says {', '.join(inputs)} and "
            f"{', '.join(outputs)}"
        )
