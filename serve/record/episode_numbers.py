"""`episode_index`: numbers episodes in the order in which a node's recording first saw them."""

from __future__ import annotations

from collections import OrderedDict

import pyarrow as pa

MAX_KNOWN = 65_536
"""Most episodes whose numbers are kept in mind; one that was quiet for longer than so many gets another number."""


class EpisodeNumbers:
    """The numbers of one node.

    Attributes:
        following: the next number.
    """

    def __init__(self, following: int) -> None:
        self.following = following
        self._known: OrderedDict[str, int] = OrderedDict()

    def column(self, episodes: pa.Array) -> pa.Array:
        """`episode_id` → `episode_index`; null stays null."""
        encoded = episodes.dictionary_encode()
        numbers = pa.array([self._number(each) for each in encoded.dictionary.to_pylist()], pa.int64())
        return numbers.take(encoded.indices)

    def _number(self, episode: str) -> int:
        number = self._known.pop(episode, None)
        if number is None:
            number, self.following = self.following, self.following + 1
        self._known[episode] = number
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return number
