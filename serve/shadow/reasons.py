"""Why a row was not compared: the values of the label `reason` of policy_shadow_skipped_total."""

from __future__ import annotations

from serve.replay import rerun

EPISODE_START, NO_EPISODE = "episode_start", "no_episode"
"""Of a policy with memory: the shadow missed the beginning of the episode, or a step of it; or there is no episode."""
REFUSED, UNUSABLE = "refused", "unusable"
"""The shadow's policy refuses the observation, or fails to compute a usable action."""
NO_ACTION = "no_action"
"""The request was refused, or got the fallback: there is no action of the policy to compare with."""
NO_OBSERVATION = "no_observation"
"""The row came without a field that the policy needs."""
OTHER_CONTRACT = "other_contract"
"""The version that answered has another contract, as one of --also may."""
OVERTAKEN = "overtaken"
"""The ring was full, or its worker had ended, before the shadow came to the row: it was too slow, or had no policy."""
UNREADABLE = "unreadable"
"""The row could not be decoded; the log says why."""
RESTART = "restart"
"""The row came while the shadow was not running, or was with it when it ended."""

OF_RERUN = {
    rerun.NO_START: EPISODE_START,
    rerun.NO_EPISODE: NO_EPISODE,
    rerun.REFUSES: REFUSED,
    rerun.UNUSABLE: UNUSABLE,
}
"""What a replay says of such rows → the label."""
