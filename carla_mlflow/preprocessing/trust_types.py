"""The types in a preprocessor that whoever runs a program trusts, beyond those that this project does."""

from __future__ import annotations

import os


def operators_types(text: str | None = None) -> tuple[str, ...]:
    """Types that the operator trusts: from `text` such as `A,B`, or from POLICY_TRUST_TYPES when it is None."""
    listed = os.environ.get("POLICY_TRUST_TYPES", "") if text is None else text
    return tuple(name.strip() for name in listed.split(",") if name.strip())
