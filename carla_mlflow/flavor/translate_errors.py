"""Translates MLflow's exceptions: refused, not found, or unreachable."""

from __future__ import annotations

import re

from mlflow.exceptions import MlflowException

from ..errors import NotFoundError, RefusedError, RegistryError, UnreachableError

_NO_ANSWER = re.compile(r"failed with exception|Max retries|error code (404|5\d\d)|valid JSON format|OperationalError")
_DOWNLOAD_FAILED = "failures occurred while downloading"
_REFUSED_CODES = {"RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"}


def translate(error: MlflowException, uri: str, tried_s: float) -> RegistryError | UnreachableError:
    """MLflow's exception as one of ours.

    Args:
        error: as MLflow raised it.
        uri: of the MLflow server.
        tried_s: how long the call was tried, seconds.
    """
    text = str(error.message).strip().splitlines()[0]
    if _DOWNLOAD_FAILED in text:  # only its further lines say why
        text = " ".join(str(error.message).split())
    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
        return NotFoundError(text)
    if _NO_ANSWER.search(text):
        return no_answer(uri, tried_s, _reason(text))
    if unknown := re.search(r"got unsupported URI '([^']*)'", text):
        return RegistryError(
            f"{unknown[1]!r} is no address of MLflow; expected such as http://HOST:5000 or sqlite:///mlflow.db "
            "(MLFLOW_TRACKING_URI, or MLFLOW_REGISTRY_URI)"
        )
    return RefusedError(text) if error.error_code in _REFUSED_CODES else RegistryError(text)


def no_answer(uri: str, tried_s: float, reason: str = "") -> UnreachableError:
    """The error of a registry that did not answer for so many seconds; `reason` says what came instead, if anything."""
    if not reason and uri.startswith("http"):
        reason = "; does MLflow run there? MLFLOW_TRACKING_URI names its address"
    return UnreachableError(f"{uri}: no answer (tried for {tried_s:.0f} s){reason}")


def _reason(text: str) -> str:
    """Why what came is no answer, if anything came."""
    if code := re.search(r"error code (\d+)", text):
        return f": it answered with HTTP status {code[1]}"
    if "valid JSON format" in text:
        return ": what it sent is not JSON; is this an MLflow server?"
    return ": its database can't be used" if "OperationalError" in text else ""
