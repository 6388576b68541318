"""Bodies of POST /invocations that a client of MLflow's might send: some fit one signature, some another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from carla_mlflow import Engine

JSON, CSV = "application/json", "text/csv"

PARAMS: dict[str, Any] = {
    "no params": {},
    "params null": None,
    "deterministic": {"deterministic": True},
    "deterministic null": {"deterministic": None},
    "seed null": {"deterministic": True, "seed": None},
    "sampled": {"deterministic": False, "seed": 7},
    "sampled, a large seed": {"seed": 2**62, "deterministic": False},
    "a seed for nothing": {"seed": 0},
}


def bodies(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes, str]]:
    """Name, body and media type. Args: four observations."""
    for name, document in documents(rows):
        yield name, msgspec.json.encode(document), JSON
    for name, params in PARAMS.items():
        for form in ({"inputs": rows}, {"inputs": columns(rows)}):
            yield name, msgspec.json.encode({**form, "params": params}), JSON
    written = msgspec.json.encode({"dataframe_records": rows})
    yield "white space", b" \n" + msgspec.json.format(written, indent=4) + b"\r\n\t", JSON
    yield "with a charset", written, JSON + "; charset=utf-8"
    for name, text in tables(rows):
        yield name, text.encode(), CSV
        yield name + ", charset", text.encode(), CSV + "; charset=UTF-8"


def documents(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    names = list(rows[0])
    table = [list(row.values()) for row in rows]
    backwards = {"columns": names[::-1], "data": [row[::-1] for row in table]}
    yield "split", {"dataframe_split": {"columns": names, "data": table}}
    yield "split with an index", {"dataframe_split": {"index": [3, 1, 0, 2], "columns": names, "data": table}}
    yield "split with names as index", {"dataframe_split": {"index": list("abcd"), "columns": names, "data": table}}
    yield "split backwards", {"dataframe_split": backwards}
    yield "split, one row", {"dataframe_split": {"columns": names, "data": table[:1]}}
    yield "records", {"dataframe_records": rows}
    yield "records backwards", {"dataframe_records": [dict(reversed(row.items())) for row in rows]}
    yield "records in other orders", {"dataframe_records": [rows[0], dict(reversed(rows[1].items()))]}
    yield "whole numbers", {"dataframe_records": [whole(row) for row in rows]}
    yield "whole and other numbers", {"dataframe_records": [whole(rows[0]), *rows[1:]]}
    for form in ("instances", "inputs"):
        yield form, {form: rows}
        yield form + ", one row", {form: rows[:1]}
        yield form + " by column", {form: columns(rows)}
        yield form + ", one row's object", {form: rows[0]}
        yield form + ", bare", {form: table}


def tables(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    plain = "".join(",".join(line) + "\n" for line in lines)
    yield "CSV", plain
    yield "CSV, backwards", "".join(",".join(line[::-1]) + "\n" for line in lines)
    yield "CSV with CRLF", plain.replace("\n", "\r\n")
    yield "CSV without a last line feed", plain.rstrip("\n")
    yield "CSV in quotes", "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines)
    yield "CSV of whole numbers", plain.split("\n")[0] + "\n1,2\n3,4\n"
    yield "CSV of exponents", plain.split("\n")[0] + "\n1e1,-2.5E-1\n.5,3.\n"
    yield "CSV with empty lines", plain.replace("\n", "\n\n")
    yield "CSV with spaces", plain.replace(",", ", ")
    yield "CSV with a byte order mark", "\ufeff" + plain


def whole(value: Any) -> Any:
    """The same with every number cut to a whole one."""
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else int(value)


def rows_of(engine: Engine, count: int) -> list[dict[str, Any]]:
    golden = engine.golden.observations
    return [{name: golden[name][row].tolist() for name in engine.specs.names} for row in range(count)]


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
