"""``ImageClassifier``: scikit-learn's contract over images."""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.scikit.base import EtudeClassifier

IMAGE = "image"


class ImageClassifier(EtudeClassifier):
    """A ConvNet, ResNet or pretrained vision model that is trained by ``fit``.

    X is an array of N images, (N, height, width) or (N, height, width, channels) of 8-bit numbers, or a list
    of such arrays, of paths or of encoded bytes. Arguments and attributes are those of
    :class:`~etude.scikit.base.EtudeClassifier`; ``backbone={"model": ...}`` chooses the network.
    """

    _kind = "image"
    _epochs = 5

    def _columns(self, X: Any, *, fitting: bool) -> dict[str, list[Any]]:  # noqa: N803
        images = list(X)
        if len(images) == 0:
            raise ValueError("X holds 0 images and at least 1 is required; give some")
        if isinstance(X, np.ndarray) and X.dtype != np.uint8 and X.dtype.kind in "fiu":
            if X.min() < 0 or X.max() > 255:
                raise ValueError(
                    f"X holds numbers from {X.min():g} to {X.max():g}, and pixels from 0 to 255 are expected"
                )
            if X.dtype.kind == "f" and X.max() <= 1:
                raise ValueError(
                    f"X holds fractions up to {X.max():g}, and pixels from 0 to 255 are expected; give "
                    "(255 * X).round().astype('uint8')"
                )
            images = list(X.round().astype(np.uint8))
        return {IMAGE: images}

    def _data_settings(self) -> dict[str, Any]:
        return {"image": IMAGE}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags
