"""A transformer that has no translation, run by scikit-learn beside the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from .fitted import disable_workers, type_name


class OutOfGraph:
    """A transformer that has no translation, run by scikit-learn beside the graph."""

    def __init__(self, transformer: Any) -> None:
        """Takes over a loaded transformer, and makes it compute in this process rather than in worker processes.

        Raises:
            ArtifactError: its parts are not composed as scikit-learn composes them.
        """
        self._transformer = transformer
        try:
            disable_workers(transformer)
            names = getattr(transformer, "feature_names_in_", None)
            self._columns = None if names is None else [str(name) for name in names]
        except Exception as error:  # in a file made by hand, attributes may be anything
            raise self._failure(error) from None

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, F) → (B, F'), float32 and C-contiguous, computed in float64; `features` stays as it is.

        Raises:
            ArtifactError: the transformer raised (only the error's type is reported, since its text may quote the
                observation), or returned something else than B rows of numbers.
        """
        try:
            with np.errstate(all="ignore"):  # what float32 can't hold becomes infinite, as it does in the graph
                made = self._transformer.transform(self._rows(features))
                rows = np.asarray(made.toarray() if hasattr(made, "toarray") else made)
                if rows.dtype.kind not in "biuf" or rows.ndim != 2 or len(rows) != len(features):
                    raise ArtifactError(
                        f"preprocessor.skops: {type_name(self._transformer)} made {rows.dtype} of shape {rows.shape} "
                        f"from {len(features)} rows, not a row of numbers for each"
                    )
                return rows.astype(np.float32, order="C")
        except ArtifactError:
            raise
        except Exception as error:  # a boundary: whatever the transformer raises
            raise self._failure(error) from None

    def _rows(self, features: NDArray[np.float32]) -> Any:
        rows = features.astype(np.float64)
        if self._columns is None:
            return rows
        import pandas as pd  # fitted on a data frame: selects columns by name, or warns without them

        return pd.DataFrame(rows, columns=self._columns)

    def _failure(self, error: Exception) -> ArtifactError:
        return ArtifactError(f"preprocessor.skops: {type_name(self._transformer)} failed: {type(error).__name__}")
