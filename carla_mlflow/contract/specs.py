"""The specs of a policy's observations: names, types, shapes and bounds.

The MLflow signature, the request checks of `serve`, the warm-up batch and the shapes of the exported graph
all derive from the specs here; there is no second schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import SpecError
from .array_bounds import Array
from .array_spec import ArraySpec

LARGE = 4096
"""Elements: a row with an array of at least this many takes long, and many such rows take much memory."""


class ObservationSpec(tuple[ArraySpec, ...]):
    """The arrays of one observation, in the order in which the exported graph takes them."""

    __slots__ = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self)

    @property
    def has_image(self) -> bool:
        """Whether any array has two or more dimensions; MLflow then needs named tensors, not columns."""
        return any(len(spec.shape) > 1 for spec in self)

    @property
    def is_large(self) -> bool:
        """Whether a row is so large that few of them are run where others would do with many: such as an image."""
        return any(int(np.prod(spec.shape, dtype=np.int64)) >= LARGE for spec in self)

    def validate(self, observations: Mapping[str, Array]) -> int:
        """Checks a batch of named arrays and returns its number of rows.

        Raises:
            SpecError: a missing or unknown name, arrays of different length, no row at all, or a bad value.
        """
        count = self.count(observations)
        for spec in self:
            spec.validate(observations[spec.name])
        return count

    def count(self, observations: Mapping[str, Array]) -> int:
        """The number of rows of a batch of named arrays, without a check of values; raises as `validate`."""
        check_names(self.names, observations.keys(), "observations")
        rows = {name: len(array) if np.ndim(array) else 0 for name, array in observations.items()}
        if len(set(rows.values())) > 1:
            raise SpecError(
                "observations", "arrays differ in length: " + ", ".join(f"{n} {r}" for n, r in rows.items())
            )
        count = rows[self[0].name]
        if count == 0:
            raise SpecError("observations", "expected at least one row, got none")
        return count

    def example(self, rows: int = 1) -> dict[str, Array]:
        """A valid batch for warm-up and documentation, each array of shape (rows, *shape)."""
        return {spec.name: np.repeat(spec.generate_value()[None], rows, axis=0) for spec in self}


def check_names(expected: Iterable[str], given: Iterable[Any], where: str) -> None:
    """Raises SpecError naming the first missing or unknown field."""
    expected, given = list(expected), list(given)
    for name in expected:
        if name not in given:
            raise SpecError(f"{where}.{name}", "is missing")
    for name in given:
        if name not in expected:
            raise SpecError(where, f"has an unknown field; expected exactly {', '.join(expected)}")
