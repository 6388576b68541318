"""JSON is read fast where that is safe, and as strictly as by the slow decoder everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve.codecs import strict_json
from serve.errors import ApiError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


def slowly(text: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(text.decode(), object_pairs_hook=once, parse_constant=int)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
@example({'a"b': ['c"', '\\"'], "ü\u2028": "\x7f"}, True, None)
def test_every_document_is_read_as_the_standard_library_reads_it(value: Any, ascii_only: bool, indent: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        expected = slowly(text)
    except ValueError:  # half a pair of surrogates is no UTF-8
        with pytest.raises(ApiError):
            strict_json.decode(text, 100)
        return
    assert strict_json.decode(text, 100) == expected


@given(st.binary(max_size=40) | st.text('{}[]",:0123456789.eE+-\\ \ntrufalsn', max_size=40).map(str.encode))
@example(b'{"a":1,"\\u0061":2}')
@example(b'{"a":{"b":1,"b":1}}')
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(b'{"":"","":""}')
def test_what_is_no_json_or_names_twice_is_refused_and_nothing_else(text: bytes) -> None:
    try:
        expected = slowly(text)
    except (ValueError, AssertionError, RecursionError):
        with pytest.raises(ApiError) as refused:
            strict_json.decode(text, 100)
        assert refused.value.code == "bad_json"
        return
    assert strict_json.decode(text, 100) == expected


def test_a_large_document_with_more_names_than_any_request_needs_is_not_read() -> None:
    text = json.dumps(dict.fromkeys(map(str, range(20_000)))).encode()
    assert strict_json.decode(text, 20_000) == dict.fromkeys(map(str, range(20_000)))
    with pytest.raises(ApiError, match="more names and strings"):
        strict_json.decode(text, 1000)


def test_a_name_twice_is_found_among_many() -> None:
    rows = [{"speed": float(number), "steering": 0.0} for number in range(2000)]
    text = json.dumps(rows).replace('"steering": 0.0}, {"speed": 1999.0', '"speed": 0.0}, {"speed": 1999.0').encode()
    with pytest.raises(ApiError, match="duplicate key"):
        strict_json.decode(text, 10_000)
