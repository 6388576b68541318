"""One field of many decoded rows → one array, as fast as Python allows: that is most of what a request costs."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.array_spec import ArraySpec
from carla_mlflow.observations import cast


class Column:
    """Gathers one field.

    Attributes:
        spec: of the field.
    """

    def __init__(self, spec: ArraySpec) -> None:
        self.spec = spec
        self._get = attrgetter(spec.name)
        self._size = int(np.prod(spec.shape, dtype=np.int64))

    def gather(self, rows: list[Any]) -> NDArray[Any]:
        """The field of all rows, (len(rows), *shape) of the spec's dtype; read-only where it is float32.

        What float32 can't hold becomes an infinity, which the bounds then refuse.

        Raises:
            SpecError: a uint8 field holds other than whole numbers from 0 to 255.
        """
        values: Iterable[Any] = map(self._get, rows)
        for _ in self.spec.shape:
            values = chain.from_iterable(values)
        shape = (len(rows), *self.spec.shape)
        if self.spec.dtype == "float32":
            numbers = tuple(values)
            try:
                # Rounds as numpy does, in a third of its time.
                packed = struct.pack(f"{len(rows) * self._size}f", *numbers)
            except OverflowError:
                return cast(self.spec, np.array(numbers).reshape(shape))
            return np.frombuffer(packed, np.float32).reshape(shape)
        return cast(self.spec, np.fromiter(values, np.float64, len(rows) * self._size).reshape(shape))
