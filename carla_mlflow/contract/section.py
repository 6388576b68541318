"""The base of the card's sections."""

from __future__ import annotations

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A part of the card. Unknown keys are refused, so that a misspelt key is not silently replaced by a default.

    A key added after format 1 has the default UNSET. While unset, it is neither written, hashed nor compared, so that
    older cards keep their bytes and hashes; see `newer_keys` in `card_sections`.
    """
