"""The one policy that an image may hold: where `serve.bake` put it, and its digest beside it."""

from __future__ import annotations

from pathlib import Path

BAKED = "POLICY_BAKED"
"""The environment variable that names the folder of both."""
POLICY, DIGEST = "policy", "digest"


def baked(folder: str) -> tuple[str, str] | None:
    """The model and the digest that an image holds, or None. Args: what POLICY_BAKED says."""
    pin = Path(folder) / DIGEST
    return (str(Path(folder) / POLICY), pin.read_text().strip()) if folder and pin.is_file() else None
