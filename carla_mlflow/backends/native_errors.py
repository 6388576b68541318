"""What went wrong in ONNX Runtime or OpenVINO, which tell out of memory from other errors by their text alone."""

from __future__ import annotations

_SIGNS = ("allocate memory", "failed to allocate", "bad_alloc", "out of memory")


def native_error(error: Exception, noise: tuple[str, ...] = ()) -> Exception:
    """The error to raise in place of a library's own: MemoryError or RuntimeError; `noise` as for `reason_of`."""
    text = str(error).lower()
    short = isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS)
    return (MemoryError if short else RuntimeError)(reason_of(error, noise))


def reason_of(error: Exception, noise: tuple[str, ...] = ()) -> str:
    """The first line of an error's text that says something; lines that start with one of `noise` do not."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith(noise)), type(error).__name__)
