"""The path of a prediction, from the bytes of a request to the bytes of its response: decode, forward, encode.

Every server goes this way: the event loop (`serve/batching`), Ray, and the Flask app, which calls `answer`. They
differ only in how many predictions share a forward.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from carla_mlflow.contract.state_token import digest_of
from serve.answering.endpoint import Answer, EncodedRequest, Endpoint
from serve.answering.forward import BatchSlice, act_together
from serve.codecs.carla import PredictRequest
from serve.codecs.gzip_body import inflate
from serve.errors import ApiError
from serve.policy.selection import find_serving
from serve.policy.serving import Serving
from serve.policy.slot import Slot

NEVER = float("inf")


def answer(prediction: Prediction) -> Answer:
    """Answers one prediction by a forward of its own.

    Raises:
        ApiError: the request is invalid, or its budget is over.
        SpecError: an observation does not fit.
        ActionError: the policy gave no usable action.
    """
    prediction.decode()
    if time.perf_counter() >= prediction.ends:
        raise too_late(prediction.serving)
    [outcome] = forward([prediction])
    if isinstance(outcome, Exception):
        raise outcome
    return prediction.encode(outcome)


class Prediction(msgspec.Struct, eq=False, gc=False):
    """One request for actions. (A msgspec struct: one is made for every request, and nothing in it refers back to it.)

    Attributes:
        endpoint: of the request.
        serving: the policy that answers; `decode` may replace it by the version that began the episode.
        slot: the policies among which that is looked for.
        encoded: the request as received.
        received: when its first byte was read, by `time.perf_counter`.
        budget_ms: the smaller of the client's header and the server's setting; a body may ask for less.
        ends: when its budget is over, by the same clock.
        episode_id: of the episode that the header or, once it is decoded, the body names; None where neither does.
        request: the decoded request; None before `decode`.
        decode_s: duration of decoding, seconds; set by `decode`.
        started: when its forward began, by the same clock; 0 before.
        ended: when its actions were ready, by the same clock; set by `encode`.
        answered: its actions; set by `encode`.
    """

    endpoint: Endpoint
    serving: Serving
    slot: Slot
    encoded: EncodedRequest
    received: float
    budget_ms: float | None
    ends: float = NEVER
    episode_id: str | None = None
    request: PredictRequest | None = None
    decode_s: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    answered: BatchSlice | None = None

    def __post_init__(self) -> None:
        self.episode_id = self.encoded.episode_id
        if self.budget_ms is not None:
            self.ends = self.received + self.budget_ms / 1e3

    def decode(self) -> PredictRequest:
        """Decodes the body; to be called once; raises ApiError or SpecError."""
        encoded, began = self.encoded, time.perf_counter()
        if encoded.gzip_limit is not None:
            encoded = msgspec.structs.replace(encoded, body=inflate(encoded.body, encoded.gzip_limit))
        self.request = request = self.endpoint.decode(self.serving, encoded)
        if request.episode_id is not None and encoded.episode_id is None:
            self.episode_id = request.episode_id
            request = self._with_its_beginning(request, encoded)
        if request.episode_digest is not None and request.episode_digest != self.serving.digest:
            self.serving = find_serving(self.slot, encoded.asked._replace(digest=request.episode_digest))
            self.request = request = self.endpoint.decode(self.serving, encoded)
        elif request.tokens is not None:
            self.request = request = self._with_its_version(request, encoded)
        elif encoded.asked.version is not None and request.episode_digest is None:
            self._check_version(encoded)
        self.decode_s = time.perf_counter() - began
        if request.budget_ms is not None:
            self.ends = min(self.ends, self.received + request.budget_ms / 1e3)
        return request

    def _with_its_beginning(self, request: PredictRequest, encoded: EncodedRequest) -> PredictRequest:
        """Has the canary answer if the episode that the body names begins with it; the request as that decodes it."""
        is_chosen = request.episode_digest is not None or encoded.asked.digest is not None
        if self.slot.beginning is None or is_chosen or encoded.asked.version is not None:
            return request
        serving = self.slot.of_beginning(request.episode_id or "")
        if serving is None or serving is self.serving:
            return request
        self.serving = serving
        self.request = self.endpoint.decode(serving, encoded)
        return self.request

    def _with_its_version(self, request: PredictRequest, encoded: EncodedRequest) -> PredictRequest:
        """Has the version answer that made the state tokens, while it is held; the request as that decodes it.

        Tokens of a version that is not there are refused with the others, by the check that names their row.
        """
        codec, tokens = self.serving.tokens, request.tokens or []
        if codec is None or encoded.asked.digest is not None or request.episode_digest is not None:
            return request
        others, version = codec.others(tokens), encoded.asked.version
        if not others and version is None:
            return request
        there = {digest: self.slot.of_episode(digest, version) for digest in others}
        found = {digest: serving for digest, serving in there.items() if serving is not None}
        if self.serving.digest in map(digest_of, filter(None, tokens)):
            found[self.serving.digest] = self.serving
        if not found:
            if version is not None:
                self._check_version(encoded)
            return request
        [serving, *more] = found.values()
        active = self._beginning() if version is None else self.slot.of_version(version)
        begins = None if active is None else active.digest
        if more or (serving.digest != begins and not all(tokens)):
            held = next(digest for digest in found if digest != begins)
            row = next(row for row, token in enumerate(tokens) if token and digest_of(token) == held)
            text = "is of a version that goes on only with episodes that it began, and other rows of the request begin "
            text += "or are of another version; send the rows of each version in a request of their own"
            raise ApiError("state_of_another_version", text, f"observations[{row}].state")
        if serving.digest == self.serving.digest:
            return request
        self.serving = serving
        return self.endpoint.decode(self.serving, encoded)

    def _beginning(self) -> Serving | None:
        """The policy with which an episode of this request would begin."""
        return self.slot.serving if self.episode_id is None else self.slot.of_beginning(self.episode_id)

    def _check_version(self, encoded: EncodedRequest) -> None:
        """Raises if the request asks for a version that is only held, but goes on with no episode of it."""
        if encoded.asked.digest is None:
            find_serving(self.slot, encoded.asked)

    def encode(self, answered: BatchSlice) -> Answer:
        """Encodes the actions of this request as the body of its response."""
        assert self.request is not None
        self.answered, self.ended = answered, time.perf_counter()
        timing_ms = b'{"queue":%.4f,"inference":%.4f,"total":%.4f}' % (
            (self.started - self.received) * 1e3,
            answered.batch.actions.inference_ms,
            (self.ended - self.received) * 1e3,
        )
        return self.endpoint.encode(self.serving, self.request, answered, timing_ms)


def forward(predictions: Sequence[Prediction]) -> list[BatchSlice | Exception]:
    """Answers decoded predictions of one policy and mode by one forward: each gets its rows of it, or its own error.

    One whose budget ends meanwhile gets the card's fallback.
    """
    serving, started = predictions[0].serving, time.perf_counter()
    requests = [prediction.request for prediction in predictions if prediction.request is not None]
    try:
        outcomes = act_together(serving, requests)
    except Exception as error:  # the boundary: a forward that raises is an error of the server, not of one request
        outcomes = [error] * len(predictions)
    ended = time.perf_counter()
    for index, prediction in enumerate(predictions):
        prediction.started = started
        if ended >= prediction.ends:
            outcomes[index] = too_late(serving)
    return outcomes


def too_late(serving: Serving) -> ApiError:
    """Returns the error for a request whose budget is over: it carries the card's fallback."""
    return ApiError(
        "deadline_exceeded",
        "no action within the time allowed; `fallback` is what to do instead",
        extra={"fallback": serving.fallback},
    )
