"""The canary among a process's policies. Pure."""

from __future__ import annotations

from typing import NamedTuple

from registry.rules.canary import belongs
from serve.policy.serving import Serving


class Canary(NamedTuple):
    """A version that answers a share of the episodes, beside the active one.

    Attributes:
        serving: the policy; it answers whoever names its digest, whatever its share.
        share: of the episodes that begin, in percent.
        is_active: whether episodes may begin with it, because every worker has it.
    """

    serving: Serving
    share: float
    is_active: bool

    def begins(self, episode_id: str) -> bool:
        """Whether an episode with that id begins with it."""
        return belongs(episode_id, self.serving.digest, self.share)
