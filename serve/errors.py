"""The server's errors: the HTTP status of each code, and the body for each protocol.

The core's exceptions become HTTP errors only here. A client's error is never a 5xx, the server's never a 4xx,
and no message contains a path, a stack trace or the client's input.
"""

from __future__ import annotations

from typing import Any, Literal

from carla_mlflow.errors import ActionError, EpisodeError, SpecError

Code = Literal[
    "bad_json",
    "bad_request",
    "unauthorized",
    "not_found",
    "version_not_found",
    "method_not_allowed",
    "request_timeout",
    "state_of_another_key",
    "state_of_another_version",
    "episode_of_another_version",
    "body_too_large",
    "host_not_allowed",
    "unsupported_media_type",
    "invalid_observation",
    "headers_too_large",
    "internal",
    "overloaded",
    "not_ready",
    "deadline_exceeded",
]
"""The `code` of every error response, on which a client's program may branch."""

STATUS: dict[Code, int] = {
    "bad_json": 400,
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "version_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "state_of_another_key": 409,
    "state_of_another_version": 409,
    "episode_of_another_version": 409,
    "body_too_large": 413,
    "host_not_allowed": 421,
    "unsupported_media_type": 415,
    "invalid_observation": 422,
    "headers_too_large": 431,
    "internal": 500,
    "overloaded": 429,
    "not_ready": 503,
    "deadline_exceeded": 504,
}
MEANING: dict[Code, str] = {
    "bad_json": "the body is not JSON, or holds what JSON should not: a key twice, NaN, too deep nesting",
    "bad_request": "the request is malformed, or asks for what does not exist: an unknown field, too many observations",
    "unauthorized": "the key is missing or wrong: Authorization: Bearer KEY",
    "not_found": "there is no such route",
    "version_not_found": "the policy or version that the request names is not served here",
    "method_not_allowed": "the route is there, but not for this method",
    "request_timeout": "the request did not arrive in time (--header-timeout-s, --body-timeout-s)",
    "state_of_another_key": "the state token was made with another key: begin the episode anew",
    "state_of_another_version": "the state token is of a version that does not answer here any more: begin the episode "
    "anew",
    "episode_of_another_version": "the version that began the episode does not answer here any more: begin it anew",
    "body_too_large": "the body is longer than --max-body-bytes, also unzipped",
    "host_not_allowed": "the header Host names another host than --allowed-hosts",
    "unsupported_media_type": "the Content-Type or Content-Encoding is another than the route takes",
    "invalid_observation": "an observation does not fit the card: `field` names row and field, the message the bound",
    "headers_too_large": "the request's head is larger than 32 KiB",
    "internal": "the policy gave no usable action, or something else failed here: the log has it under the request id",
    "overloaded": "more requests are in flight than --max-inflight: try again after Retry-After",
    "not_ready": "no verified policy is loaded yet, or the server is stopping; /readyz says why",
    "deadline_exceeded": "the answer came too late for the request's budget: do what `fallback` says",
}
"""What each code means, for people who read the documentation."""
_CODE_OF_STATUS: dict[int, Code] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}

MLFLOW_CODE = {
    400: "BAD_REQUEST",
    409: "RESOURCE_CONFLICT",
    422: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
    500: "INTERNAL_ERROR",
}
RETRY_AFTER_S = 1


class ApiError(Exception):
    """An error that is sent as the response to a request.

    Attributes:
        code: what happened, one of Code.
        message: one line for a person.
        field: the part of the request that is at fault, such as `observations[3].speed`.
        extra: further fields of the body, beside `error`.
    """

    def __init__(self, code: Code, message: str, field: str | None = None, extra: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.extra = code, message, field, extra or {}

    @property
    def status(self) -> int:
        return STATUS[self.code]

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the code asks for."""
        if self.code in ("not_ready", "overloaded"):
            return {"Retry-After": str(RETRY_AFTER_S)}
        return {"WWW-Authenticate": "Bearer"} if self.code == "unauthorized" else {}

    def body(self, request_id: str) -> dict[str, Any]:
        """The error body of all routes except /invocations and /v2."""
        details = {"code": self.code, "message": self.message, "request_id": request_id}
        if self.field is not None:
            details["field"] = self.field
        return {"error": details, **self.extra}

    def inference_body(self, request_id: str) -> dict[str, Any]:
        """The error body of the Open Inference Protocol, with our code added."""
        message = f"{self.field}: {self.message}" if self.field else self.message
        return {"error": message, "code": self.code, "request_id": request_id, **self.extra}

    def mlflow_body(self, request_id: str) -> dict[str, Any]:
        """The error body of MLflow's scoring protocol, with our code added."""
        code = MLFLOW_CODE.get(self.status, "BAD_REQUEST" if self.status < 500 else "INTERNAL_ERROR")
        message = f"{self.field}: {self.message}" if self.field else self.message
        return {"error_code": code, "message": message, "code": self.code, "request_id": request_id, **self.extra}


def from_core(error: Exception) -> ApiError:
    """Translates an exception of the core to an API error; an unknown one becomes `internal`, without details."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SpecError):
        inside = error.field.startswith("observations")
        return ApiError("invalid_observation" if inside else "bad_request", error.problem, error.field)
    if isinstance(error, EpisodeError):
        return ApiError(error.code, error.problem, error.field)
    if isinstance(error, ActionError):
        return ApiError("internal", "the policy computed no usable action for this request")
    return ApiError("internal", "internal error; the log has it under this request id")


def from_status(status: int) -> ApiError:
    """Translates the HTTP status of an error that Flask raised by itself."""
    code: Code = _CODE_OF_STATUS.get(status, "bad_request" if status < 500 else "internal")
    return ApiError(code, code.replace("_", " "))
