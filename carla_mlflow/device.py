"""Which device a policy runs on, and why."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import DeviceError


@dataclass(frozen=True)
class Device:
    """`name` as torch spells it (`cpu`, `cuda:0`), and the reason it was chosen, for people."""

    name: str
    reason: str


def select_device(wanted: str = "auto") -> Device:
    """Chooses a device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        DeviceError: a device named outright is missing. Only `auto` may fall back to the CPU.
    """
    if wanted == "cpu":
        return Device("cpu", "asked for")
    if wanted != "auto" and wanted.partition(":")[0] != "cuda":
        raise DeviceError(f"unknown device {wanted!r}; expected auto, cpu, cuda or cuda:N")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        if count:
            return Device("cuda:0", f"auto: {count} CUDA device(s) found")
        return Device("cpu", "auto: no CUDA device found")
    index = wanted.partition(":")[2] or "0"
    if not index.isdigit() or int(index) >= count:
        raise DeviceError(f"{wanted} was asked for, but this machine has {count} CUDA device(s)")
    return Device(f"cuda:{index}", "asked for")
