"""Heads and bodies that are ambiguous, malformed or too long."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.hostile.saying import MARK, NEXT, Case

JSON = b"Content-Type: application/json\r\n"
NOT_THERE = frozenset({400, 404, 405, 431})
UNREADABLE = frozenset({400, 413, 431, 501, 505})


def post(body: bytes, *headers: bytes, length: bytes | None = None) -> bytes:
    """A POST to /predict; `length` replaces the true Content-Length."""
    framing = b"Content-Length: %b\r\n" % (b"%d" % len(body) if length is None else length)
    return b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + JSON + framing + b"".join(headers) + b"\r\n" + body


def chunked(*chunks: bytes, headers: bytes = b"") -> bytes:
    """A POST to /predict with a chunked body; the chunks are sent as given."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + JSON + headers + b"\r\n"
    return head + b"".join(chunks)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """One well-formed chunk."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def get(*lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A GET of /healthz with only these header lines."""
    return b"GET /healthz " + version + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def smuggling(body: bytes) -> dict[str, bytes]:
    """Requests that any server has to refuse, by what is wrong with each."""
    size = b"%d" % len(body)
    coded = chunked(b"0\r\n\r\n")
    return {
        "a length and chunks": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
        "another coding": coded.replace(b"chunked", b"gzip, chunked"),
        "identity": coded.replace(b"chunked", b"identity"),
        "xchunked": coded.replace(b"chunked", b"xchunked"),
        "two codings": chunked(b"0\r\n\r\n", headers=b"Transfer-Encoding: identity\r\n"),
        "two lengths": post(body, b"Content-Length: 5\r\n"),
        "the same length twice": post(body, b"Content-Length: %b\r\n" % size),
        "a list of lengths": post(body, length=b"%b, %b" % (size, size)),
        "a signed length": post(body, length=b"+" + size),
        "a negative length": post(body, length=b"-1"),
        "a hexadecimal length": post(body, length=b"0x10"),
        "a huge length": post(body, length=b"9" * 30),
        "an empty length": post(body, length=b""),
        "no host": get(),
        "two hosts": get(b"Host: a", b"Host: b"),
        "a folded line": get(b"Host: localhost", b"X-A: 1", b" 2"),
        "a space before the colon": get(b"Host: localhost", b"Content-Length : 5") + b"hello",
        "no colon": get(b"Host: localhost", b"nonsense"),
        "a zero byte": get(b"Host: localhost", b"X-A: a\0b"),
        "another version": get(b"Host: localhost", version=b"HTTP/2.0"),
        "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a long chunk": chunked(b"5\r\nhello world\r\n0\r\n\r\n"),
        "no size": chunked(b"\r\nhello\r\n0\r\n\r\n"),
        "a signed size": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
        "a size with 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
        "a size beyond all numbers": chunked(b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n"),
        "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    }


def bare() -> dict[str, bytes]:
    """Requests that gunicorn's own parser accepts and our worker refuses, by what is wrong with each."""
    return {
        "a bare line feed in the head": b"GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n",
        "bare line feeds at its end": b"GET /healthz HTTP/1.1\r\nHost: localhost\n\n",
        "a bare carriage return": get(b"Host: localhost\rX-A: 1"),
        "a bare line feed after a size": chunked(b"5\nhello\r\n0\r\n\r\n"),
        "a bare line feed after a chunk": chunked(b"5\r\nhello\n0\r\n\r\n"),
        "a bare line feed in an extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        "a target that is a URL": b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a host that is none": get(b"Host: a b"),
        "a zero byte after the head's lines": get(b"Host: localhost")[:-2] + b"\x00\r\n\r\n",
    }


def cases(body: bytes, strict: bool) -> Iterator[Case]:
    """All framing cases; those of `smuggling` and `bare` are followed by a good request that must not be answered.

    Args:
        body: a good body of /predict.
        strict: whether to include the cases that only our own worker refuses.
    """
    for name, sent in (smuggling(body) | (bare() if strict else {})).items():
        yield Case(name, sent + NEXT, UNREADABLE, is_last=True)
    for cut in range(1, len(body), max(1, len(body) // 20)):
        yield Case(f"a body that ends after {cut}", post(body)[:-cut], frozenset({400, 408}), may_end=True)
    whole = chunked(chunk(body[:9]), chunk(body[9:]), b"0\r\n\r\n")
    head = whole.index(b"\r\n\r\n") + 4
    for cut in range(head, len(whole) - 1, 7):
        yield Case(f"chunks that end after {cut}", whole[:cut], frozenset({400, 408}), may_end=True)
    for headers in (150, 2000):
        lines = [b"X-%d: 1" % number for number in range(headers)]
        yield Case(f"{headers} headers", get(b"Host: localhost", *lines), frozenset({400, 431}))
    for size in (33_000, 1_000_000):
        yield Case(
            f"a header of {size}", get(b"Host: localhost", b"X-A: " + b"a" * size), frozenset({400, 431}), may_end=True
        )
        target = b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        yield Case(f"a target of {size}", target, frozenset({400, 414, 431}), may_end=True)
    yield Case("50,000 chunks of a byte", chunked(chunk(b" ") * 50_000, b"0\r\n\r\n"), frozenset({400, 413}))
    if strict:  # gunicorn's parser has no such limits
        long = chunked(chunk(body, b";" + b"x" * 100_000), b"0\r\n\r\n")
        yield Case("an extension without end", long, frozenset({400, 431}), may_end=True)
        trailers = chunked(chunk(body), b"0\r\n" + b"X-T: 1\r\n" * 20_000 + b"\r\n")
        yield Case("20,000 trailers", trailers, frozenset({400, 431}), may_end=True)


def reflecting(body: bytes) -> Iterator[Case]:
    """Headers that a response must not repeat, on every kind of route."""
    lines = [b"Host: " + MARK + b".example", b"X-Forwarded-For: " + MARK, b"X-Forwarded-Host: " + MARK]
    lines += [b"X-Forwarded-Proto: " + MARK, b"Forwarded: host=" + MARK, b"Origin: https://" + MARK + b".example"]
    lines += [b"X-Request-Id: a b " + MARK, b"Referer: " + MARK, b"Cookie: " + MARK, b"X-Original-URL: /" + MARK]
    routes = (b"/", b"/healthz", b"/readyz", b"/metadata", b"/openapi.json", b"/docs", b"/metrics", b"/v2")
    missing = (b"/" + MARK, b"/predict", b"/v2/models/" + MARK, b"/invocations?" + MARK, b"/%0d%0aX-A:" + MARK)
    for route in (*routes, *missing):
        head = b"\r\n".join([b"GET " + route + b" HTTP/1.1", *lines])
        yield Case(f"GET {route.decode()}", head + b"\r\n\r\n", frozenset({200, 404, 405}))
    for status, media_type in ((200, b"application/json"), (415, b"text/" + MARK)):
        head = b"\r\n".join([b"POST /predict HTTP/1.1", *lines, b"Content-Type: " + media_type])
        sent = head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        yield Case(f"POST as {media_type.decode()}", sent, frozenset({status}))
    for forged in (b"x\tSet-Cookie: " + MARK, b"%0d%0a" + MARK, MARK * 40, b"\xff\xfe" + MARK):
        sent = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: " + forged + b"\r\n\r\n"
        yield Case("a request id that is none", sent, frozenset({200, 400}))


NAMES = ("..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "a" * 129, "a/b", "a%00b", "a%0d%0aX: 1", "%ff",
         "C:\\x", "~root", "file:%2f%2f", "${jndi}", "a;b", "a b", "%", "%zz", "x" * 5000)  # fmt: skip


def traversing() -> Iterator[Case]:
    """Invalid names and versions in paths, path traversal included."""
    for name in NAMES:
        text = name.encode()
        for path in (
            b"/v2/models/%b",
            b"/v2/models/%b/ready",
            b"/v2/models/mine/versions/%b",
            b"/docs/%b",
            b"/pages/%b",
            b"/static/%b",
            b"/%b",
        ):
            sent = b"GET " + path % text + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
            yield Case(f"GET {path.decode()} of {name[:30]}", sent, NOT_THERE)
        for path in (b"/v2/models/%b/infer", b"/v2/models/mine/versions/%b/infer", b"/predict?version=%b"):
            sent = b"POST " + path % text + b" HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}"
            yield Case(f"POST {path.decode()} of {name[:30]}", sent, NOT_THERE)
