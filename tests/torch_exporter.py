"""torch's ONNX exporter lists every function that it knows anew for each export, for half a second of CPU time."""

from __future__ import annotations

import functools
import sys

_MODULE = "torch.onnx._internal.exporter._registration"


def list_functions_once() -> None:
    """Has it done once a process, if it was imported: nobody adds functions of their own to the list."""
    registration = sys.modules.get(_MODULE)
    if registration is None:
        return
    kind = registration.ONNXRegistry
    if not isinstance(vars(kind)["from_torchlib"], staticmethod):
        kind.from_torchlib = staticmethod(functools.cache(kind.from_torchlib))
