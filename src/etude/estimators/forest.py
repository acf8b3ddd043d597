"""Trees as plain arrays: what scikit-learn's histogram gradient boosting learned, without its objects.

All trees stand one after the other in the same arrays. A row starts at the root of each, and in every step
moves to one of two children until it is at a leaf; leaves point at themselves. A number that is missing, or
a category that training did not see, goes where the node says.

Shapes: N rows, D columns, M nodes, T trees, P outputs, S splits by category.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CHUNK = 2048
"""Rows that move through all trees together: their positions stay in the processor's cache."""

MOST_CATEGORIES = 256


@dataclass(frozen=True)
class Forest:
    """Fitted trees.

    Attributes:
        column: (M,) which column a node looks at.
        threshold: (M,) numbers of at most so much go left.
        left, right: (M,) the children's positions among the M; a leaf's are its own.
        missing_left: (M,) whether a missing value goes left.
        value: (M,) what a leaf adds.
        split: (M,) which of the S sets of categories go left; -1 where the column is a number.
        categories: (S, 256) whether a category goes left.
        gain: (M,) how much the loss fell by the node's split.
        root: (T,) the trees' first nodes.
        output: (T,) which output a tree adds to.
        start: (P,) the outputs before the first tree.
        depth: the longest way from a root to a leaf.
    """

    column: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    split: NDArray[np.int32]
    categories: NDArray[np.bool_]
    gain: NDArray[np.float64]
    root: NDArray[np.int32]
    output: NDArray[np.int32]
    start: NDArray[np.float64]
    depth: NDArray[np.int32]

    @classmethod
    def of_sklearn(cls, model: Any, n_rounds: int) -> Self:
        """Take the first rounds of a fitted ``HistGradientBoostingClassifier``.

        Its categories must be numbered from 0 without a gap, and their columns come first, as it orders
        them itself.
        """
        nodes, sets, roots, outputs, splits = [], [], [], [], []
        n_nodes = n_splits = depth = 0
        for trees in model._predictors[:n_rounds]:
            for output, tree in enumerate(trees):
                found = tree.nodes.copy()
                leaf = found["is_leaf"].astype(bool)
                own = np.arange(len(found))
                for side in ("left", "right"):
                    found[side] = np.where(leaf, own, found[side]) + n_nodes
                by_category = found["is_categorical"].astype(bool) & ~leaf
                splits.append(np.where(by_category, found["bitset_idx"].astype(np.int64) + n_splits, -1))
                nodes.append(found)
                sets.append(_unpacked(tree.raw_left_cat_bitsets))
                roots.append(n_nodes)
                outputs.append(output)
                n_nodes, n_splits = n_nodes + len(found), n_splits + len(sets[-1])
                depth = max(depth, int(tree.get_max_depth()))
        node = np.concatenate(nodes)
        return cls(
            column=node["feature_idx"].astype(np.int32),
            threshold=node["num_threshold"].astype(np.float64),
            left=node["left"].astype(np.int32),
            right=node["right"].astype(np.int32),
            missing_left=node["missing_go_to_left"].astype(np.bool_),
            value=node["value"].astype(np.float64),
            split=np.concatenate(splits).astype(np.int32),
            categories=np.concatenate(sets),
            gain=np.where(node["is_leaf"], 0.0, node["gain"]).astype(np.float64),
            root=np.array(roots, dtype=np.int32),
            output=np.array(outputs, dtype=np.int32),
            start=np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1),
            depth=np.array([depth], dtype=np.int32),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what :meth:`arrays` gave."""
        return cls(**{part.name: arrays[part.name] for part in fields(cls)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, for a file."""
        return {part.name: np.ascontiguousarray(getattr(self, part.name)) for part in fields(self)}

    def raw(self, design: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outputs (N, P) of rows (N, D)."""
        found = np.repeat(self.start[None, :], len(design), axis=0)
        for begin in range(0, len(design), CHUNK):
            rows = design[begin : begin + CHUNK]
            values = self.value[self._leaves(rows)]
            for tree, output in enumerate(self.output):  # in their order, as scikit-learn adds them
                found[begin : begin + CHUNK, output] += values[:, tree]
        return found

    def _leaves(self, rows: NDArray[np.float64]) -> NDArray[np.int32]:
        """The leaves (n, T) that rows (n, D) end in."""
        at = np.repeat(self.root[None, :], len(rows), axis=0)
        row = np.arange(len(rows))[:, None]
        for _ in range(int(self.depth[0])):
            values = rows[row, self.column[at]]
            go_left = values <= self.threshold[at]
            if len(self.categories):
                go_left = np.where(self.split[at] >= 0, self._by_category(at, values), go_left)
            go_left = np.where(np.isnan(values), self.missing_left[at], go_left)
            at = np.where(go_left, self.left[at], self.right[at])
        return at

    def _by_category(self, at: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether categories go left at their nodes; what it says of numbers means nothing."""
        code = np.nan_to_num(values, nan=0.0).clip(0, MOST_CATEGORIES - 1).astype(np.int64)
        return self.categories[self.split[at], code]

    def gains(self, n_columns: int) -> NDArray[np.float64]:
        """How much the loss fell by splits of each column: (D,)."""
        found = np.bincount(self.column, weights=self.gain, minlength=n_columns)[:n_columns]
        return found.astype(np.float64)


def _unpacked(bitsets: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Turn sets (S, 8) of 32 bits each into (S, 256).

    >>> _unpacked(np.array([[5, 0, 0, 0, 0, 0, 0, 1 << 31]], dtype=np.uint32)).nonzero()[1].tolist()
    [0, 2, 255]
    """
    shifted = bitsets[:, :, None] >> np.arange(32, dtype=np.uint32)
    return (shifted & 1).astype(np.bool_).reshape(len(bitsets), MOST_CATEGORIES)
