"""Bodies that are not JSON, or JSON that no policy accepts: every bad value at every place, on every endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.hostile.saying import MARK, Case
from benchmarks.support.encoding import infer_path, rows_of
from benchmarks.support.requests import http_request
from carla_mlflow import Artifact

REFUSED = frozenset({400, 422})
MARKED = f'"{MARK.decode()}"'
NO_NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1e39", "-1e39", "null", '"12.5"', "true", "false", '""', "[]",
    "{}", "[[1]]", MARKED, "9" * 400, "-" + "9" * 400, "9" * 5000, "1" + "0" * 308, ".5", "5.", "01", "+1", "0x10",
    "1_000", "1e", "--1", "-", "nan", "undefined", "'6'", "6 7", "6,", "6/*c*/", "6//", "1e400", '"\\ud800"', '"\t"',
    "[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, "[" * 100_000, '{"a":1,"a":2}', "1e-400e", "\u0661",
    "\ufeff1", '"\\u0031"', "61e9", "-61e9",
)  # fmt: skip
"""Texts that have to be refused in the place of a number within a field's bounds."""
NO_FLAGS = ("null ", "0", "1", '"true"', "[]", "{}", "True", "yes", MARKED)
NO_SEEDS = ("-1", "1.5", "1e3", "9" * 30, str(2**63), '"7"', "true", "[]", "{}", "NaN", MARKED)
NO_BUDGETS = ("-1", "-0.1", '"9"', "true", "[]", "{}", "NaN", "Infinity", "1e309", "1" + "0" * 400, MARKED)
PLACE = "@@"


class Bodies:
    """Good bodies of one policy for every endpoint, with a place where something bad can be put.

    Attributes:
        batch: observations by name, each (rows, …).
        rows: the same observations, one JSON object per row.
        infer: the path of the policy's /v2 inference.
        good: a body of /predict with these rows.
    """

    def __init__(self, artifact: Artifact, rows: int = 5) -> None:
        rng, specs = np.random.default_rng(0), artifact.card.observation_spec
        self._specs = specs
        self.batch = {spec.name: spec.sample(rng, rows) for spec in specs}
        self.rows = rows_of(self.batch)
        self.infer = infer_path(artifact.card.name)
        self.good = json.dumps({"observations": self.rows}).encode()

    def documents(self, rows: list[Any]) -> Iterator[tuple[str, Any]]:
        """Yields a path, and a document with these rows, for every endpoint and format that can hold them."""
        yield "/predict", {"observations": rows}
        for name in ("inputs", "instances", "dataframe_records"):
            yield "/invocations", {name: rows}
        columns = [spec.name for spec in self._specs]
        if all(isinstance(row, dict) and list(row) == columns for row in rows):
            split = {"columns": columns, "data": [list(row.values()) for row in rows]}
            yield "/invocations", {"dataframe_split": split}
            yield self.infer, self.tensors(rows)

    def tensors(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Rows as a document of the Open Inference Protocol, with nested lists as data."""
        inputs = [
            {"name": s.name, "shape": [len(rows), *s.shape], "datatype": "FP32", "data": [row[s.name] for row in rows]}
            for s in self._specs
        ]
        return {"inputs": inputs}

    def places(self) -> Iterator[tuple[str, list[Any]]]:
        """Rows with PLACE instead of one number: in the first, a middle and the last row, in each field."""
        for row in (0, len(self.rows) // 2, len(self.rows) - 1):
            for spec in self._specs:
                changed = [dict(each) for each in self.rows]
                value: Any = PLACE
                if spec.shape:
                    value = list(changed[row][spec.name])
                    value[-1] = PLACE
                changed[row][spec.name] = value
                yield f"row {row}, {spec.name}", changed


def _case(name: str, path: str, text: str, media_type: str = "application/json") -> Case:
    return Case(name, http_request(path, text.encode("utf-8", "surrogatepass"), media_type), REFUSED)


def numbers(bodies: Bodies) -> Iterator[Case]:
    """Every value of NO_NUMBERS at every place."""
    for where, rows in bodies.places():
        for path, document in bodies.documents(rows):
            text = json.dumps(document)
            for value in NO_NUMBERS:
                yield _case(f"{path} {where}: {value[:20]}", path, text.replace(f'"{PLACE}"', value))


def options(bodies: Bodies) -> Iterator[Case]:
    """Options with invalid values, unknown names, and documents that are none."""
    wrong = {"deterministic": NO_FLAGS[1:], "seed": NO_SEEDS, "budget_ms": NO_BUDGETS, "details": NO_FLAGS[1:]}
    for name, values in wrong.items():
        for value in values:
            document = json.dumps({"observations": bodies.rows, name: PLACE})
            yield _case(f"/predict {name}: {value[:20]}", "/predict", document.replace(f'"{PLACE}"', value))
            if name != "details":
                document = json.dumps(bodies.tensors(bodies.rows) | {"parameters": {name: PLACE}})
                yield _case(f"/v2 {name}: {value[:20]}", bodies.infer, document.replace(f'"{PLACE}"', value))
            if name in ("deterministic", "seed"):
                document = json.dumps({"inputs": bodies.rows, "params": {name: PLACE}})
                yield _case(f"/invocations {name}: {value[:20]}", "/invocations", document.replace(f'"{PLACE}"', value))
    for name in (MARK.decode(), "__class__", "Observations", "mode", ""):
        for path, document in bodies.documents(bodies.rows):
            yield _case(f"{path} with {name}", path, json.dumps(document | {name: 1}))
    for text in ('{"observations":[],"observations":[]}', "", " ", "{", "[]", "1", "null", '"a"', "{}" * 2, "\ufeff{}"):
        for path in ("/predict", "/invocations", bodies.infer):
            yield _case(f"{path}: {text[:20]}", path, text)


def shapes(bodies: Bodies) -> Iterator[Case]:
    """Rows that lack a field, have one too many, have a wrong shape, or are no objects."""
    first = bodies.rows[0]
    wrong: list[list[Any]] = [[], [{}], [1], [None], [[]], ["a"], bodies.rows * 300]
    for name, value in first.items():
        without = {key: each for key, each in first.items() if key != name}
        wrong += [[without], [without | {MARK.decode(): 1}], [first | {MARK.decode(): value}]]
        others: list[Any] = [[], [value], [value, value], {}, {"base64": "AAAA"}, {"a": value}]
        if isinstance(value, list):
            others += [value[:-1], [*value, 0], [value[:6], value[6:]], 0.5, "".join("1" for _ in value)]
        wrong += [[first, first | {name: other}] for other in others]
    for rows in wrong:
        for path, document in bodies.documents(rows):
            yield _case(f"{path}: {str(rows)[:40]}", path, json.dumps(document))
        yield _case(f"/predict: no list but {str(rows)[:30]}", "/predict", json.dumps({"observations": {"a": rows}}))


def tensors(bodies: Bodies) -> Iterator[Case]:
    """Tensors whose names, types, shapes or sizes do not fit the policy or their own data."""
    good = bodies.tensors(bodies.rows)
    for index, entry in enumerate(good["inputs"]):
        shape = entry["shape"]
        for key, values in {
            "name": ("", MARK.decode(), "..", None, 1, good["inputs"][index - 1]["name"]),
            "datatype": ("FP64", "INT32", "BYTES", "BOOL", "", None, "fp32", MARK.decode()),
            "shape": ([], [0, *shape[1:]], [-1, *shape[1:]], [2**31, *shape[1:]], [2**63, *shape[1:]], [*shape, 2],
                      shape[1:] + shape[:1] if shape[1:] else [7], [1.0 * shape[0], *shape[1:]], "5", None, [True]),
            "data": ([], [1], {}, "AAAA", None, 5, [[]], [entry["data"]] * 2),
            "parameters": ({"binary_data_size": 4}, {"shared_memory_region": "x"}, [], 1, {"a": 1}),
            "more": (1,),
        }.items():  # fmt: skip
            for value in values:
                inputs = [dict(each) for each in good["inputs"]]
                inputs[index][key] = value
                yield _case(
                    f"/v2 {entry['name']}.{key}: {str(value)[:20]}", bodies.infer, json.dumps({"inputs": inputs})
                )
    for value in ([], {}, None, good["inputs"][:-1], good["inputs"] * 2, [1], "a", good["inputs"] * 1000):
        yield _case(f"/v2 inputs: {str(value)[:20]}", bodies.infer, json.dumps({"inputs": value}))
    outputs = [{"name": "steer"}]
    for value in (
        outputs * 2,
        outputs * 5000,
        [{"name": MARK.decode()}],
        [{}],
        [1],
        {},
        "a",
        [{"name": "steer", "a": 1}],
    ):
        yield _case(f"/v2 outputs: {str(value)[:20]}", bodies.infer, json.dumps(good | {"outputs": value}))


def binary(bodies: Bodies) -> Iterator[Case]:
    """Binary tensors after the JSON header whose size is not as declared, or that are not finite or out of bounds."""
    whole = b"".join(array.tobytes() for array in bodies.batch.values())
    sizes = {name: array.nbytes for name, array in bodies.batch.items()}
    shapes_of = {name: list(array.shape) for name, array in bodies.batch.items()}
    first, *_ = sizes

    def packed(name: str, data: bytes, header_bytes: int | str | None = None, **changed: Any) -> Case:
        inputs = [
            {"name": key, "shape": shapes_of[key], "datatype": "FP32", "parameters": {"binary_data_size": size}}
            for key, size in (sizes | changed).items()
        ]
        head = json.dumps({"inputs": inputs}).encode()
        length = {"Inference-Header-Content-Length": str(len(head) if header_bytes is None else header_bytes)}
        return Case(name, http_request(bodies.infer, head + data, "application/octet-stream", **length), REFUSED)

    yield packed("a byte too few", whole[:-1])
    yield packed("a byte too many", whole + b"\0")
    yield packed("no bytes", b"")
    for length in (0, 1, 10**6, 10**12, 2**63, -1, "a", "1e3", "0x10", ""):
        yield packed(f"a header of {length} bytes", whole, length)
    for size in (0, 1, -4, sizes[first] + 4, sizes[first] - 1, 2**31, 2**63, 2**64, 10**30, 4.0, "4", None, True):
        yield packed(f"{first} of {size} bytes", whole, **{first: size})
    for value in (np.nan, np.inf, -np.inf, 1e30, -1e30):
        for place in (0, len(whole) // 8, len(whole) // 4 - 1):
            numbers_ = np.frombuffer(whole, "<f4").copy()
            numbers_[place] = value
            yield packed(f"{value} at {place}", numbers_.tobytes())
