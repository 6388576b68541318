"""The policy that `serve.bake` put into the container image, and its digest."""

from __future__ import annotations

from pathlib import Path

BAKED = "POLICY_BAKED"
"""Environment variable that names the folder with the policy and its digest."""
POLICY, DIGEST = "policy", "digest"


def baked(folder: str) -> tuple[str, str] | None:
    """Returns the path and the digest of the image's policy, or None; `folder` is the value of POLICY_BAKED."""
    pin = Path(folder) / DIGEST
    return (str(Path(folder) / POLICY), pin.read_text().strip()) if folder and pin.is_file() else None
