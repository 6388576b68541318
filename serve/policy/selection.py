"""Which of the policies in the slot a request asks for."""

from __future__ import annotations

from typing import NamedTuple

from serve.errors import ApiError
from serve.policy.serving import Serving
from serve.policy.slot import Slot


class Selection(NamedTuple):
    """Which policy a request asks for; by default the active one.

    Attributes:
        version: semantic version.
        name: of the policy.
        digest: of the version that began the episode.
        episode_id: of an episode that may begin with the canary; None where no version is left to choose.
    """

    version: str | None = None
    name: str | None = None
    digest: str | None = None
    episode_id: str | None = None


ACTIVE = Selection()


def find_serving(slot: Slot, asked: Selection, may_go_on: bool = False) -> Serving:
    """Returns the policy that a request asks for.

    Args:
        slot: the policies.
        asked: what the request asks for.
        may_go_on: whether it may also be a held one of the version that is asked for, as the body may name an episode
            that this began; who decodes the body checks that it does.

    Raises:
        ApiError: not_ready, version_not_found or episode_of_another_version.
    """
    version, name, digest, episode_id = asked
    if digest is not None:
        serving = slot.of_episode(digest, version)
    elif episode_id is not None and version is None:
        serving = slot.of_beginning(episode_id)
    else:
        serving = slot.serving if version is None else slot.of_version(version)
        if serving is None and version is not None and may_go_on:
            serving = slot.beside_of_version(version)
    if serving is None and not slot.ready:
        raise ApiError("not_ready", slot.waits_for)
    if serving is not None and name in (None, serving.card.name):
        return serving
    names = sorted({served.card.name for served in slot.servings if served})
    if name is not None and name not in names:
        raise ApiError("version_not_found", f"this policy is not served here; served: {', '.join(names)}", "name")
    if digest is not None:
        text = "the version that began this episode is neither active nor held here; begin the episode anew"
        raise ApiError("episode_of_another_version", text, "X-Episode-Digest")
    known = ", ".join(dict.fromkeys(served.version for served in slot.served())) or "none yet"
    raise ApiError("version_not_found", f"this version is not served here; served: {known}", "version")
