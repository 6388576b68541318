"""The backends, by name. (Imports nothing, so that a wrong --backend is refused at once.)"""

from __future__ import annotations

BACKENDS = ("torchscript", "onnx", "openvino")
"""What may run a policy. OpenVINO has no graph of its own: it reads the one for `onnx`."""
CHOICES = ("card", *BACKENDS, "auto")
"""What a consumer may be told to use: what the card names, one by name, or the faster here."""


def graph_of(backend: str) -> str:
    """The backend that a graph is listed for which this backend reads."""
    return "onnx" if backend == "openvino" else backend
