"""Measured networks as matrices: how much of each kind of work each of them holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_edge.latency.graph import Work
from nas_edge.latency.model import LEAST, Array, ShapeCorrection
from nas_edge.latency.walk import KernelWork


@dataclass(frozen=True)
class Kind:
    """The kernels of one kind in all networks.

    `network` `[kernels]` says whose each is, `logs` `[kernels, sizes]` are the logarithms (base 2) of their sizes,
    `amounts` `[kernels, features]` their work, with a `column` of `Networks.amounts` for each feature.
    """

    name: str
    features: tuple[str, ...]
    columns: tuple[int, ...]
    network: npt.NDArray[np.int64]
    logs: Array
    amounts: Array

    def expected(self, correction: ShapeCorrection | None) -> Array:
        """The amounts as a correction has them: times 1 and the share of the kernel's shape."""
        if correction is None:
            return self.amounts
        expected: Array = self.amounts * np.maximum(1 + correction.at(self.logs)[0], LEAST)[:, None]
        return expected


class Networks:
    """Networks and the kernels in them. Column 0 of `amounts` `[networks, columns]` is a run, 1 for each.

    `expected` are the amounts with what is known of shapes beforehand: each kernel's are larger by its share.
    """

    def __init__(self, works: Sequence[Work], shapes: Mapping[str, ShapeCorrection] | None = None) -> None:
        self.works = list(works)
        found: dict[str, list[tuple[int, KernelWork]]] = {}
        for index, work in enumerate(self.works):
            for kernel in work.kernels:
                found.setdefault(kernel.kind, []).append((index, kernel))
        self.kinds: list[Kind] = []
        self.columns: list[tuple[str, str]] = []
        for name in sorted(found):
            self.kinds.append(self._kind(name, found[name]))
        self.amounts = self._table({kind.name: kind.amounts for kind in self.kinds})
        known = {kind.name: kind.expected(shapes.get(kind.name)) for kind in self.kinds} if shapes else None
        self.expected = self.amounts if known is None else self._table(known)

    def _table(self, amounts: Mapping[str, Array]) -> Array:
        """The sum over the kernels of each network, and 1 for the run."""
        table = np.zeros((len(self.works), 1 + len(self.columns)))
        table[:, 0] = 1
        for kind in self.kinds:
            for place, column in enumerate(kind.columns):
                np.add.at(table[:, column], kind.network, amounts[kind.name][:, place])
        return table

    def _kind(self, name: str, kernels: Sequence[tuple[int, KernelWork]]) -> Kind:
        features = tuple(sorted({feature for _, kernel in kernels for feature in kernel.features}))
        first = 1 + len(self.columns)
        self.columns += [(name, feature) for feature in features]
        return Kind(
            name,
            features,
            tuple(range(first, first + len(features))),
            np.array([index for index, _ in kernels]),
            np.log2([kernel.dims for _, kernel in kernels]),
            np.array([[kernel.features.get(f, 0.0) for f in features] for _, kernel in kernels]),
        )

    def by_name(self, values: Array) -> dict[str, dict[str, float]]:
        """One value a column, without the run's, as kind -> feature -> value."""
        table: dict[str, dict[str, float]] = {}
        for (kind, feature), value in zip(self.columns, values[1:], strict=True):
            table.setdefault(kind, {})[feature] = float(value)
        return table
