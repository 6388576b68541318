"""Reads an ONNX file whose weights lie in a second file beside it, as torch.onnx.export writes them since 2.9."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor

from carla_mlflow.errors import ExportError


def read_onnx(path: Path) -> bytes:
    """The file's bytes, with all weights inside; of a file that is not ONNX its own bytes.

    Raises:
        ExportError: the file with its weights is not there, or is none that lies beside it.
    """
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, TypeError):
        return data  # `checked_model` says what it is
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        return data
    for tensor in outside:
        _load(path, tensor)
    whole: bytes = model.SerializeToString()
    return whole


def _load(path: Path, tensor: Any) -> None:
    """Reads one tensor's data into the model."""
    where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    beside = path.parent / where
    if Path(where).name != where or beside.is_symlink():
        raise ExportError(f"{path.name}: keeps its weights in {where!r}; only a plain file beside it is read")
    if not beside.is_file():
        raise ExportError(f"{path.name}: keeps its weights in {where}, which is not beside it: copy both files")
    try:
        load_external_data_for_tensor(tensor, str(path.parent))
    except (ValueError, OSError, OverflowError, onnx.checker.ValidationError) as error:
        raise ExportError(
            f"{path.name}: its weights in {where} can't be read: {' '.join(str(error).split())}"
        ) from error
    tensor.data_location = onnx.TensorProto.DEFAULT  # as onnx does it itself since 1.19
    del tensor.external_data[:]
