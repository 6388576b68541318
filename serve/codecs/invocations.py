"""POST /invocations: MLflow's scoring protocol, without MLflow.

Accepts what `mlflow models serve` accepts for our signature: `dataframe_split`, `dataframe_records`, `instances` or
`inputs`, each with `params`, or CSV; answers `{"predictions": [...]}`. Stricter where MLflow guesses: a missing value,
a ragged row or an unknown parameter is an error, where MLflow reads NaN, pads the row or ignores the parameter.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.answer import answer_columns
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.observations import from_rows
from carla_mlflow.contract.state_token import STATE
from serve.codecs import strict_json
from serve.codecs.action_rows import ActionRows
from serve.codecs.carla import PredictRequest
from serve.codecs.options import check_seed, row_strings
from serve.codecs.state_rows import split_states
from serve.errors import ApiError

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\s*", re.ASCII)

Rows = list[dict[str, Any]]


class ScoringCodec:
    """Decodes and encodes /invocations for one card.

    Attributes:
        rows: encodes the actions.
    """

    def __init__(self, card: Card, max_rows: int) -> None:
        self._specs = specs = card.observation_spec
        # MLflow writes the float32 as a double, and a labelled choice as two columns.
        self._remembers = bool(card.states)
        self.rows = ActionRows(answer_columns(card.action), np.float64, as_table=True, remembers=self._remembers)
        self._max_rows = max_rows
        self._most_strings = row_strings(card, max_rows) + max_rows  # the index may be strings
        self._as_numbers = specs.has_image  # a signature of tensors has no text

    def decode_json(self, body: bytes) -> PredictRequest:
        """Decodes a JSON body.

        Raises:
            ApiError: bad_json or bad_request.
            SpecError: an observation's type or shape does not fit; names row and field.
        """
        document = strict_json.decode(body, self._most_strings)
        forms = [name for name in FORMS if isinstance(document, dict) and name in document]
        if len(forms) != 1:
            raise ApiError("bad_request", f"expected an object with exactly one of {', '.join(FORMS)}")
        unknown = set(document) - {forms[0], "params"}
        if unknown:
            raise ApiError("bad_request", f"unknown field beside {forms[0]}; expected params or nothing")
        given = document[forms[0]]
        rows = [given] if forms[0] in _TENSOR_FORMS and self._is_row(given) else _READERS[forms[0]](given)
        return self._request(rows, _params(document.get("params")))

    def decode_csv(self, body: bytes) -> PredictRequest:
        """Decodes CSV with a header line; for policies whose observations are all scalars."""
        if any(spec.shape for spec in self._specs):
            raise ApiError("bad_request", "CSV holds single numbers only; this policy observes arrays: send JSON")
        try:
            reader = csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
            table = list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ApiError("bad_request", "not CSV in UTF-8") from error
        if len(set(reader.fieldnames or ())) != len(reader.fieldnames or ()):
            raise ApiError("bad_request", "a column is named twice")
        return self._request([{name: _number(text) for name, text in row.items()} for row in table], {})

    def _is_row(self, value: Any) -> bool:
        """Whether an object holds the fields of one row rather than a list for each field."""
        shapes = {spec.name: len(spec.shape) for spec in self._specs}
        return (
            isinstance(value, dict)
            and value != {}
            and all(_depth(each) == shapes.get(name) for name, each in value.items() if not self._is_state(name))
        )

    def _is_state(self, name: str) -> bool:
        return self._remembers and name == STATE

    def _request(self, rows: Rows, params: dict[str, Any]) -> PredictRequest:
        if not rows:
            raise ApiError("bad_request", "expected at least one row, got none")
        if len(rows) > self._max_rows:
            raise ApiError("bad_request", f"{len(rows)} rows; at most {self._max_rows} in a request")
        given, tokens = split_states(rows, self._as_numbers) if self._remembers else (rows, None)
        arrays: dict[str, NDArray[Any]] = from_rows(self._specs, given)
        return PredictRequest(arrays, **params, tokens=tokens)

    def encode(self, objects: bytes) -> bytes:
        """Encodes `{"predictions": [{"throttle": …, "brake": …, "steer": …}, …]}`, or what else the policy answers.

        Args:
            objects: the actions as JSON objects, separated by commas.
        """
        return b'{"predictions":[%b]}' % objects


def _from_split(value: Any) -> Rows:
    if not isinstance(value, dict) or not {"columns", "data"} <= set(value) <= {"columns", "data", "index"}:
        raise ApiError("bad_request", "dataframe_split: expected an object with columns and data")
    columns, data = value["columns"], value["data"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise ApiError("bad_request", "dataframe_split: expected columns to be a list of names")
    if len(set(columns)) != len(columns):
        raise ApiError("bad_request", "dataframe_split: a column is named twice")
    if not isinstance(data, list):
        raise ApiError("bad_request", "dataframe_split: expected data to be a list of rows")
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise ApiError("bad_request", f"dataframe_split: row {index} is not a list of {len(columns)} values")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _from_records(value: Any) -> Rows:
    if not isinstance(value, list):
        raise ApiError("bad_request", "dataframe_records: expected a list of objects, one per row")
    return value


def _from_inputs(value: Any) -> Rows:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not value or not all(isinstance(column, list) for column in value.values()):
        raise ApiError(
            "bad_request",
            "inputs or instances: expected a row's object, a list of these, or an object with one list per field",
        )
    if len({len(column) for column in value.values()}) != 1:
        raise ApiError("bad_request", "inputs or instances: the lists differ in length")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _depth(value: Any) -> int:
    """Returns how deep lists are nested, judged by the first value of each."""
    depth = 0
    while isinstance(value, list):
        value, depth = (value[0] if value else None), depth + 1
    return depth


_TENSOR_FORMS = ("instances", "inputs")
_READERS = {
    "dataframe_split": _from_split,
    "dataframe_records": _from_records,
    "instances": _from_inputs,
    "inputs": _from_inputs,
}


def _params(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not set(value) <= {"deterministic", "seed"}:
        raise ApiError("bad_request", "params: expected an object with no other keys than deterministic, seed")
    deterministic, seed = value.get("deterministic"), value.get("seed")
    if deterministic is not None and not isinstance(deterministic, bool):
        raise ApiError("bad_request", "expected true or false", "params.deterministic")
    check_seed(seed, "params.seed")
    return {"deterministic": True if deterministic is None else deterministic, "seed": seed}


def _number(text: Any) -> Any:
    # Plain decimals only: float() would also take 1_0, nan and inf. from_rows refuses the rest with row and field.
    return float(text) if isinstance(text, str) and _DECIMAL.fullmatch(text) else text
