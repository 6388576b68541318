"""The fixed limits of what a client may do; those that a user can set are in `settings`.

Each has its name and its value here only. What exceeds one gets a 4xx or waits; it never costs other clients.
"""

from __future__ import annotations

MAX_HEAD_BYTES = 32 * 1024
"""Most bytes of a head: request line and headers together."""
MAX_HEADERS = 100

OTHER_BODY_BYTES = 1024 * 1024
"""Most bytes of a body that is not a prediction: webhooks are small."""
SMALL_BODY_BYTES = 16 * 1024
"""Bodies of up to this size do not count for MAX_HELD_BODIES."""
MAX_HELD_BODIES = 4
"""How many bodies of the largest size may be in memory at once, from their first byte to their response."""

FREE_CHUNKS, MIN_CHUNK = 1000, 256
"""A chunked body may have FREE_CHUNKS chunks of any size, and one more for each MIN_CHUNK bytes. Reading a chunk costs
a microsecond or two, and megabytes in chunks of a few bytes would delay all other requests."""
MAX_CHUNK_LINE = 256
"""Most bytes of the size line before a chunk, extensions included, and of a trailer line after the last chunk."""
MAX_TRAILERS = 100

MAX_PIPELINED = 64
"""Requests of one connection that may wait for responses; further ones are read when some have been answered."""
MAX_PER_TURN = 8
"""Requests that are read from one connection before other connections are served."""
REST_S = 0.05
"""How long a connection is not read after a request on it got 429 and more were waiting behind it, seconds: a client
that pipelines many does not slow the others."""
KEEP_ALIVE_S = 75.0
"""How long an idle connection stays open."""
LINGER_S = 1.0
"""How long further bytes are read and dropped after an error, so that the client can read the response."""

MAX_EPISODES, MAX_EPISODE_ROWS = 16, 1024
"""Most episodes of one connection whose latest action is kept, the last used ones, and most rows of these together."""
MAX_OWN_HEADS, MAX_OWN_HEAD_BYTES = 2, 512
"""Most heads that are cached for one connection, because they name an episode, and most bytes of each: a parsed head
takes several times its bytes, and there may be thousands of connections."""

MAX_BATCH_ROWS = 1024
"""Most observations in one forward on the event loop."""
MAX_TURN_BYTES = 1024 * 1024
"""Most bytes of bodies that are decoded in one iteration of the event loop: a few milliseconds."""
MAX_FLASK_REQUESTS = 256
"""Most requests that wait for a thread of the Flask app or run in one."""

MAX_HOOK_AGE_S = 300
"""Most seconds between the timestamp of a webhook's delivery and this machine's clock."""
MAX_HOOK_DELIVERIES = 4096
"""Most delivery ids that are remembered: a delivery expires before that many others have come."""
MAX_ID = 256
"""Most characters of the id of a request in the Open Inference Protocol."""
RING_BYTES = 32 << 20
"""Memory of the ring of one worker that records: some seconds at the highest rate."""
