"""model.pt: TorchScript, frozen, on the CPU or a CUDA device."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ArtifactError
from .backend import Arrays, aligned
from .torchscript_archive import checked_archive
from .torchscript_ops import check_operations
from .torchscript_purity import check_purity


class TorchScriptBackend:
    """See Backend."""

    name = "torchscript"
    out_of_memory: type[Exception] = torch.OutOfMemoryError

    def __init__(self, graph: bytes, device: str) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda":
            _compute_in_float32()
        archive = checked_archive(graph)
        try:
            module = torch.jit.load(io.BytesIO(archive), map_location=self._device)  # type: ignore[no-untyped-call]
            check_operations(module)  # before freezing, which already runs constant parts
            # Not optimize_for_inference: its packed linear layers round a row depending on its position in the batch
            # (measured: six outputs, odd and even rows), and it is no faster here.
            frozen = torch.jit.freeze(module.eval())
            writes = check_purity(frozen.forward.inlined_graph)
            self._forward = frozen.forward  # without Module.__call__, which costs as much as a small layer
            if any(writes):
                self._forward = _with_copies(frozen.forward, writes)
        except (RuntimeError, AttributeError) as error:
            raise ArtifactError(f"model.pt: not a policy in TorchScript: {str(error).splitlines()[0]}") from error

    def __call__(self, inputs: Arrays) -> Arrays:
        with torch.inference_mode():
            outputs = self._forward(*(torch.from_numpy(array).to(self._device) for array in inputs))
            return [output.cpu().numpy() for output in _as_tuple(outputs)]

    def allocate(self, count: int, dtype: str) -> NDArray[Any]:
        if self._device.type == "cpu":
            return aligned(count, dtype)
        pinned: NDArray[Any] = torch.zeros(count, dtype=getattr(torch, dtype), pin_memory=True).numpy()
        return pinned

    def bind(self, inputs: Arrays) -> _OnCpu | _OnCuda:
        kind = _OnCpu if self._device.type == "cpu" else _OnCuda
        return kind(self._forward, inputs, self._device)


def _compute_in_float32() -> None:
    """Keeps this process's convolutions and products on a GPU in float32, and the same at every call.

    By default convolutions use TensorFloat-32, 10 bits of mantissa, where the GPU has it: on an H200 an image policy
    then differed from the trained one by 3e-5 of a value, which parity refuses.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True


class _OnCpu:
    """Tensors that share the caller's buffers: nothing is copied."""

    def __init__(self, forward: Any, inputs: Arrays, _: torch.device) -> None:
        self._forward = forward
        self._tensors = [torch.from_numpy(array) for array in inputs]

    def replace(self, index: int, array: NDArray[Any]) -> None:
        self._tensors[index] = torch.from_numpy(array)

    def run(self) -> Arrays:
        with torch.inference_mode():
            outputs = self._forward(*self._tensors)
            return [output.numpy() for output in _as_tuple(outputs)]


class _OnCuda:
    """Pinned buffers on the host, and their copies on the device; transfers are queued, and waited for once."""

    def __init__(self, forward: Any, inputs: Arrays, device: torch.device) -> None:
        self._forward = forward
        self._here = [torch.from_numpy(array) for array in inputs]
        self._there = [torch.empty_like(tensor, device=device) for tensor in self._here]
        self._answers: list[torch.Tensor] | None = None
        self._device = device

    def replace(self, index: int, array: NDArray[Any]) -> None:
        self._here[index] = torch.from_numpy(array)

    def run(self) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            for here, there in zip(self._here, self._there, strict=True):
                there.copy_(here, non_blocking=True)
            outputs = _as_tuple(self._forward(*self._there))
            if self._answers is None:
                self._answers = [torch.empty(o.shape, dtype=o.dtype, pin_memory=True) for o in outputs]
            for answer, output in zip(self._answers, outputs, strict=True):
                answer.copy_(output, non_blocking=True)
            torch.cuda.current_stream(self._device).synchronize()
            return [answer.numpy() for answer in self._answers]


def _with_copies(forward: Any, writes: tuple[bool, ...]) -> Any:
    """Copies the inputs that a network writes into (in-place layers), so that the caller's arrays stay unchanged."""

    def answer(*inputs: torch.Tensor) -> Any:
        return forward(*(tensor.clone() if written else tensor for tensor, written in zip(inputs, writes, strict=True)))

    return answer


def _as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
