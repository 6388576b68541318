"""POST /predict: the project's own JSON.

A fast decoder with types made from the card decodes each request. Its errors name only a position in the bytes, so what
it refuses is decoded again by a slow one, whose errors name row and field.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from numpy.typing import NDArray

from carla_mlflow.contract.actions import Actions
from carla_mlflow.contract.answer import answer_columns
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.observations import from_rows
from serve.codecs import strict_json
from serve.codecs.action_rows import ActionRows
from serve.codecs.columns import Column, from_base64
from serve.codecs.options import check_budget, check_seed, row_strings, text_bytes
from serve.codecs.request_type import request_type
from serve.codecs.state_rows import split_states, tokens_of
from serve.errors import ApiError

OPTIONS = ("deterministic", "seed", "budget_ms", "details")
FIELDS = ("observations", *OPTIONS)
NO_ARRAYS: dict[str, NDArray[Any]] = {}


class PredictRequest(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A decoded request: observations by the spec (bounds not yet checked), and how to act.

    Attributes:
        observations: arrays by name, each (B, *shape); empty where `rows` holds them.
        rows: observations as the fast decoder returned them, to be put into arrays with those of other requests.
        episode_id: that the body names; None where the protocol has no place for it.
        episode_digest: of the version that began the episode, likewise.
        tokens: the state token of each row, None for one that begins an episode; None for a policy without memory.
        count: number of observations, B.
    """

    observations: dict[str, NDArray[Any]]
    deterministic: bool = True
    seed: int | None = None
    budget_ms: float | None = None
    details: bool = False
    rows: list[Any] | None = None
    episode_id: str | None = None
    episode_digest: str | None = None
    tokens: list[bytes | None] | None = None

    @property
    def count(self) -> int:
        return len(self.rows) if self.rows is not None else len(next(iter(self.observations.values())))


class PredictCodec:
    """Decodes and encodes /predict for one card.

    Attributes:
        rows: encodes the actions.
        watched: fields whose values are compared with the range that the policy is used to.
        most_bytes: the most bytes of a request's text.
    """

    def __init__(self, card: Card, digest: str, max_rows: int) -> None:
        self._named = msgspec.json.encode({"version": card.version, "digest": digest})[1:-1]
        self._specs = card.observation_spec
        self._remembers = bool(card.states)
        self.rows = ActionRows(answer_columns(card.action), remembers=self._remembers)
        self.watched = tuple(s for s in self._specs if s.dtype == "float32" and s.has_usual)
        self.most_bytes = text_bytes(card, max_rows)
        self._most_strings = row_strings(card, max_rows)
        self._columns = [Column(spec) for spec in card.observation_spec]
        self._images = [column for column in self._columns if len(column.spec.shape) > 1]
        self._names_a_row = len(self._specs)
        self._raw_names = tuple(card.action.raw)
        self._max_rows = max_rows
        kind = request_type(self._specs, max_rows, self._remembers, as_tuples=True)
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes) -> PredictRequest:
        """Decodes a request.

        Raises:
            ApiError: bad_json or bad_request.
            SpecError: an observation's type or shape does not fit; names row and field.
        """
        try:
            request = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._decode_slowly(body)
        if not self._names_once(body, request):
            return self._decode_slowly(body)
        rows = request.observations
        self._check_rows(len(rows))
        seed = None if request.seed is UNSET else request.seed
        if seed is not None:
            check_seed(seed, "seed")
        return PredictRequest(
            NO_ARRAYS,
            request.deterministic is not False,
            seed,
            None if request.budget_ms is UNSET else request.budget_ms,
            request.details is True,
            rows,
            tokens=tokens_of([row.state for row in rows]) if self._remembers else None,
        )

    def to_arrays(self, rows: list[Any]) -> dict[str, NDArray[Any]]:
        """Rows of decoded requests → arrays of the specs' dtypes, each (len(rows), *shape)."""
        return {column.spec.name: column.gather(rows) for column in self._columns}

    def _names_once(self, body: bytes, request: Any) -> bool:
        """Whether no object has the same name twice: the fast decoder would silently keep the last one.

        Except for base64 and states, no value in a request that it accepts is a string, so each pair of quotes is one
        name.
        """
        names = 5 - (request.deterministic is UNSET) - (request.seed is UNSET)
        names -= (request.budget_ms is UNSET) + (request.details is UNSET)
        rows = request.observations
        names += len(rows) * self._names_a_row
        if self._images:
            names += 2 * sum(column.texts(rows) for column in self._images)
        if self._remembers:
            names += sum((row.state is not UNSET) + isinstance(row.state, str) for row in rows)
        return strict_json.quotes(body) == 2 * names

    def _decode_slowly(self, body: bytes) -> PredictRequest:
        document = strict_json.decode(body, self._most_strings)
        if not isinstance(document, dict):
            raise ApiError("bad_request", "expected an object with observations")
        for name in document:
            if name not in FIELDS:
                raise ApiError("bad_request", f"unknown field; expected {', '.join(FIELDS)}")
        rows = document.get("observations")
        if not isinstance(rows, list):
            raise ApiError("bad_request", "expected a list of observations", "observations")
        for name in ("deterministic", "details"):
            if not isinstance(document.get(name), bool | None):
                raise ApiError("bad_request", "expected true or false", name)
        seed, budget = document.get("seed"), check_budget(document.get("budget_ms"), "budget_ms")
        check_seed(seed, "seed")
        self._check_rows(len(rows))
        rows, tokens = split_states(rows) if self._remembers else (rows, None)
        arrays = from_rows(self._specs, [self._with_arrays(row, index) for index, row in enumerate(rows)])
        deterministic, details = document.get("deterministic") is not False, document.get("details") is True
        return PredictRequest(arrays, deterministic, seed, budget, details, tokens=tokens)

    def _with_arrays(self, row: Any, index: int) -> Any:
        """Returns the row with its base64 fields decoded to arrays."""
        if not self._images or not isinstance(row, dict):
            return row
        found = dict(row)
        for column in self._images:
            name = column.spec.name
            value = row.get(name)
            if isinstance(value, dict) and value.keys() == {"base64"}:
                found[name] = from_base64(column.spec, value["base64"], f"observations[{index}].{name}")
        return found

    def _check_rows(self, rows: int) -> None:
        if rows == 0:
            raise ApiError("bad_request", "expected at least one observation, got none", "observations")
        if rows > self._max_rows:
            raise ApiError("bad_request", f"{rows} observations; at most {self._max_rows} in a request", "observations")

    def encode(self, objects: bytes, request: PredictRequest, actions: Actions | None, timing_ms: bytes) -> bytes:
        """Encodes a response.

        Args:
            objects: the actions as JSON objects, separated by commas.
            request: the decoded request.
            actions: the policy's actions; needed where the request samples or asks for details.
            timing_ms: a JSON object.
        """
        tail = b""
        if actions is not None and actions.seed is not None:
            tail = b',"seed":%d' % actions.seed
        if actions is not None and request.details:
            tail += b',"details":' + msgspec.json.encode(self._details(actions))
        mode = b"true" if request.deterministic else b"false"
        return b'{"actions":[%b],%b,"deterministic":%b,"timing_ms":%b%b}' % (
            objects, self._named, mode, timing_ms, tail,
        )  # fmt: skip

    def _details(self, actions: Actions) -> list[dict[str, Any]]:
        names, raw = self._raw_names, actions.raw.tolist()
        distribution = {key: values.tolist() for key, values in actions.distribution.items()}
        return [
            {
                "raw": dict(zip(names, row, strict=True)),
                "distribution": {key: values[index] for key, values in distribution.items()},
            }
            for index, row in enumerate(raw)
        ]
