"""Fitted scikit-learn transformers → graph modules, and the trust list that reading them back obeys.

What a transformer does to a row of features becomes part of the exported graph, so that a consumer with nothing
but libtorch gets the right action. The fitted transformer itself stays in the artifact as
`preprocessor.skops`: provenance, and what parity is measured against.
"""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import torch
from torch import nn

from .errors import ArtifactError, ExportError

TRUSTED_TYPES: tuple[str, ...] = ()
"""Types beyond skops' own defaults that a preprocessor may hold. Owned by this code, never by the artifact."""


class Affine(nn.Module):
    """(features - shift) / scale, in float32."""

    def __init__(self, shift: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.from_numpy(np.asarray(shift, dtype=np.float32).copy()))
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, dtype=np.float32).copy()))
        self.shift: torch.Tensor
        self.scale: torch.Tensor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) → (B, F)."""
        return (features - self.shift) / self.scale


def translate(transformer: Any) -> nn.Module:
    """A fitted scikit-learn transformer as a graph module.

    Raises:
        ExportError: it was never fitted, or there is no translation for its type.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(transformer)
    except (NotFittedError, TypeError) as error:
        raise ExportError(f"the preprocessor {type(transformer).__name__} was never fitted") from error
    if type(transformer) is StandardScaler:
        width = transformer.n_features_in_
        shift = transformer.mean_ if transformer.with_mean else np.zeros(width)
        scale = transformer.scale_ if transformer.with_std else np.ones(width)
        return Affine(shift, scale)
    raise ExportError(f"the preprocessor {type(transformer).__name__} can't be translated into the graph")


def load_preprocessor(data: bytes) -> Any:
    """Reads preprocessor.skops without unpickling anything.

    Raises:
        ArtifactError: not a skops file, or one that holds a type outside the trust list.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(data, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ArtifactError(f"preprocessor.skops: holds types that are not trusted: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"preprocessor.skops: not a skops file: {error}") from error
