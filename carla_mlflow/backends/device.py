"""Which device a policy runs on, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import DeviceError


@dataclass(frozen=True)
class Device:
    """`name` as torch spells it (`cpu`, `cuda:0`), and the reason it was chosen, for people."""

    name: str
    reason: str


def select_device(wanted: str = "auto", backend: str = "torchscript") -> Device:
    """Chooses a device for a backend: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        DeviceError: a device requested by name is missing. Only `auto` may fall back to the CPU.
    """
    if wanted == "cpu":
        return Device("cpu", "requested")
    if not re.fullmatch(r"auto|cuda(:\d+)?", wanted):
        raise DeviceError(f"unknown device {wanted!r}; expected auto, cpu, cuda or cuda:N")
    count, missing = _cuda_devices(backend)
    if wanted == "auto":
        if count:
            return Device("cuda:0", f"auto: {count} CUDA device(s) found")
        return Device("cpu", f"auto: {missing}")
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(f"{wanted} was requested, but {missing or f'there are only {count} CUDA device(s)'}")
    return Device(f"cuda:{index}", "requested")


def _cuda_devices(backend: str) -> tuple[int, str]:
    """How many CUDA devices the backend can use, and what is missing when there are none."""
    if backend == "openvino":
        return 0, "the backend openvino runs on CPUs alone"
    if backend == "onnx":
        import onnxruntime as ort

        if "CUDAExecutionProvider" not in ort.get_available_providers():
            return 0, "this ONNX Runtime is built without CUDA (onnxruntime-gpu has it)"
        counts = [d.device.type == ort.OrtHardwareDeviceType.GPU for d in ort.get_ep_devices()]
        return sum(counts), "" if any(counts) else "ONNX Runtime found no CUDA device"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return count, "" if count else "torch found no CUDA device"
