"""Decompresses request bodies, up to a limit."""

from __future__ import annotations

import zlib

from serve.codecs.options import Body
from serve.errors import ApiError


def inflate(body: Body, limit: int) -> bytes:
    """Decompresses a gzipped body.

    Raises:
        ApiError: body_too_large, without decompressing more than `limit` + 1 bytes; or bad_request.
    """
    decoder = zlib.decompressobj(wbits=31)  # gzip only
    try:
        whole = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise ApiError("bad_request", "the body is not gzip") from error
    if len(whole) > limit or decoder.unconsumed_tail:
        raise ApiError("body_too_large", f"the body is larger than {limit} bytes")
    if not decoder.eof or decoder.unused_data:
        raise ApiError("bad_request", "the body is not one whole gzip member")
    return whole
