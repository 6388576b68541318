"""What the flags of several commands choose from, without importing the settings."""

from __future__ import annotations

BACKENDS = ("card", "torchscript", "onnx", "auto")
"""What runs a policy: what its card says, one of the two, or the faster here."""
