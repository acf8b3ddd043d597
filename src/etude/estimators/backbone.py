"""An estimator in the place of a network, so that whatever predicts with a network predicts with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etude.backbones.model_folder import write_model_folder
from etude.core.backbone import Backbone, Output, Transform
from etude.errors import RunError
from etude.estimators.base import Estimator, Features, Floats
from etude.estimators.examples import TERMS, EstimatorExamples
from etude.estimators.saving import load_estimator, save_estimator
from etude.evaluation.tfidf import Tfidf

FOLDER, TERMS_FILE = "estimator", "terms.json"


class EstimatorBackbone(Backbone):
    """A model without parameters that could be trained by steps.

    Its features are its logits, and it offers techniques nothing.

    Attributes:
        estimator: what predicts.
        terms: the TF-IDF of each column of texts.
    """

    def __init__(self, estimator: Estimator, terms: Sequence[Tfidf] = ()) -> None:
        super().__init__()
        self.estimator, self.terms = estimator, tuple(terms)
        self.head = nn.Identity()
        self.fingerprint = f"estimator:{estimator.kind}"

    def fit(
        self,
        train: EstimatorExamples,
        validation: EstimatorExamples | None,
        *,
        class_weights: Floats | None = None,
        seed: int = 0,
    ) -> None:
        """Fit the estimator; errors are those of :meth:`~etude.estimators.Estimator.fit`."""
        held_out = None if validation is None else validation.sample()
        self.estimator.fit(train.sample(), held_out, class_weights=class_weights, seed=seed)

    def forward(self, inputs: Mapping[str, Tensor], transform: Transform | None = None) -> Output:
        """Map ``raw_numbers`` (B, K), ``categories`` (B, J) and terms to logits (B, C)."""
        numbers = inputs["raw_numbers"]
        found = self.estimator.logits(
            Features(numbers.cpu().numpy(), inputs["categories"].cpu().numpy(), self._terms_of(inputs))
        )
        logits = torch.from_numpy(found).to(numbers.device)
        return Output(logits, logits)

    def _terms_of(self, inputs: Mapping[str, Tensor]) -> Any:
        if not self.terms:
            return None
        from scipy import sparse  # type: ignore[import-untyped]

        offsets, columns, values = (inputs[name].cpu().numpy() for name in TERMS)
        shape = (len(offsets) - 1, sum(one.n_terms for one in self.terms))
        return sparse.csr_matrix((values, columns, offsets), shape=shape)

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        def add(partial: Path) -> None:
            (partial / FOLDER).mkdir()
            save_estimator(self.estimator, partial / FOLDER)
            described = {"model_type": "etude-estimator", "kind": self.estimator.kind}
            (partial / "config.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
            if self.terms:
                told = json.dumps([one.to_json() for one in self.terms], ensure_ascii=False)
                (partial / TERMS_FILE).write_text(told + "\n", "utf-8")

        write_model_folder(folder, {}, metadata, add)

    @classmethod
    def load(cls, folder: Path) -> EstimatorBackbone:
        """Open what :meth:`save` wrote.

        Raises:
            RunError: it is damaged.
            ConfigError: it needs a library that is not installed.
        """
        estimator, path = load_estimator(folder / FOLDER), folder / TERMS_FILE
        try:
            told = json.loads(path.read_text("utf-8")) if path.exists() else []
            terms = [Tfidf.from_json(one) for one in told]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read: {error!r}; train the model again") from None
        return cls(estimator, terms).eval()

    # What a network is cut into for techniques; none of them acts on an estimator.

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.forward(inputs).logits

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (embedding,)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        return layers[-1]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return [("head", self.head)]
