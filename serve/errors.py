"""The server's errors: one table from code to status, one shape on the wire.

The core raises what happened; here alone it becomes HTTP. A client's fault is never a 5xx, ours never a 4xx,
and no text carries a path, a stack or what the client sent.
"""

from __future__ import annotations

from typing import Any, Literal

from carla_mlflow.errors import ActionError, SpecError

Code = Literal[
    "bad_json",
    "bad_request",
    "unauthorized",
    "not_found",
    "version_not_found",
    "method_not_allowed",
    "request_timeout",
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
"""What a client's code may branch on: the `code` of every error that this server answers."""

STATUS: dict[Code, int] = {
    "bad_json": 400,
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "version_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
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
_CODE_OF_STATUS: dict[int, Code] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}

MLFLOW_CODE = {
    400: "BAD_REQUEST",
    422: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
    500: "INTERNAL_ERROR",
}
RETRY_AFTER_S = 1


class ApiError(Exception):
    """A request that gets an error for an answer.

    Attributes:
        code: what happened, one of Code.
        message: one line for a person.
        field: the part of the request that is at fault, such as `observations[3].speed`.
        extra: beside `error` in the body.
    """

    def __init__(self, code: Code, message: str, field: str | None = None, extra: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.extra = code, message, field, extra or {}

    @property
    def status(self) -> int:
        return STATUS[self.code]

    def body(self, request_id: str) -> dict[str, Any]:
        """The error as every route but MLflow's answers it."""
        details = {"code": self.code, "message": self.message, "request_id": request_id}
        if self.field is not None:
            details["field"] = self.field
        return {"error": details, **self.extra}

    def inference_body(self, request_id: str) -> dict[str, Any]:
        """The error in the shape of the Open Inference Protocol, our code beside it."""
        message = f"{self.field}: {self.message}" if self.field else self.message
        return {"error": message, "code": self.code, "request_id": request_id, **self.extra}

    def mlflow_body(self, request_id: str) -> dict[str, Any]:
        """The error in the shape of MLflow's scoring protocol, our code beside it."""
        code = MLFLOW_CODE.get(self.status, "BAD_REQUEST" if self.status < 500 else "INTERNAL_ERROR")
        message = f"{self.field}: {self.message}" if self.field else self.message
        return {"error_code": code, "message": message, "code": self.code, "request_id": request_id, **self.extra}


def from_core(error: Exception) -> ApiError:
    """What the core raised, as an API error; anything unknown is our fault and stays unexplained."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SpecError):
        inside = error.field.startswith("observations")
        return ApiError("invalid_observation" if inside else "bad_request", error.problem, error.field)
    if isinstance(error, ActionError):
        return ApiError("internal", "the policy computed no usable action for this request")
    return ApiError("internal", "internal error; the log has it under this request id")


def from_status(status: int) -> ApiError:
    """What Flask refused by itself."""
    code: Code = _CODE_OF_STATUS.get(status, "bad_request" if status < 500 else "internal")
    return ApiError(code, code.replace("_", " "))
