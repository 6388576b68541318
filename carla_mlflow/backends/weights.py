"""The hash of a policy's weights: equal in the cards of versions with equal weights, and recomputed by `verify`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import Artifact
from ..errors import IntegrityError

ONNX_PREFIX = "network/"
"""Prefix of the initializers that came with an ONNX file; those of the head appended to it have none."""


def hash_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """`sha256:` over name, type, shape and bytes of each array, sorted by name."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return "sha256:" + digest.hexdigest()


def torch_weights(state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """A torch module's state_dict as arrays; bfloat16, which numpy lacks, as the 16 bits of each number."""
    import torch

    tensors = {name: tensor.detach().cpu() for name, tensor in state.items()}
    return {n: (t.view(torch.int16) if t.dtype == torch.bfloat16 else t).numpy() for n, t in tensors.items()}


def onnx_weights(model: Any) -> dict[str, NDArray[Any]]:
    """The weights of an ONNX file that became a policy: name → array."""
    from onnx import numpy_helper

    return {
        tensor.name.removeprefix(ONNX_PREFIX): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.startswith(ONNX_PREFIX)
    }


def check_weights(artifact: Artifact) -> None:
    """Compares the card's `weights` with the graph itself: model.pt if there is one, else model.onnx.

    Raises:
        IntegrityError: the graph's weights have another hash than the card says.
        ArtifactError: the graph is invalid.
    """
    actual = hash_arrays(_torchscript(artifact) if "torchscript" in artifact.backends else _onnx(artifact))
    if actual != artifact.card.weights:
        raise IntegrityError(
            f"weights: the card says {artifact.card.weights}, but the hash of the graph's weights is {actual}"
        )


def _torchscript(artifact: Artifact) -> dict[str, NDArray[Any]]:
    import torch

    from .torchscript_archive import checked_archive

    archive = checked_archive(artifact.file_of_backend("torchscript"))
    module = torch.jit.load(io.BytesIO(archive), map_location="cpu")  # type: ignore[no-untyped-call]
    return torch_weights(module.state_dict())


def _onnx(artifact: Artifact) -> dict[str, NDArray[Any]]:
    import onnx

    from .onnx_checks import checked_model

    return onnx_weights(onnx.load_model_from_string(checked_model(artifact.file_of_backend("onnx"))))
