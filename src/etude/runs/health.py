"""The health of a saved model by the spectra of its weights: no data are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etude.core.observe import Reporter
from etude.diagnosis.spectra import Spectrum, reading, spectrum
from etude.kinds import open_saved
from etude.runs.folder import find_model, read_metadata


@dataclass(frozen=True)
class Health:
    """The spectra of a model.

    Attributes:
        folder: the model's.
        spectra: of every weight that is large enough.
        n_small: weights with two dimensions that are not.
        reading: a sentence on them.
    """

    folder: Path
    spectra: tuple[Spectrum, ...]
    n_small: int
    reading: str

    @property
    def means(self) -> dict[str, float]:
        """The mean of each measure over the layers; empty where there are none."""
        names = ("alpha", "alpha_weighted", "log_norm", "log_spectral_norm", "stable_rank")
        return {
            name: float(np.mean([getattr(s, name) for s in self.spectra])) for name in names if self.spectra
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        layers = [asdict(s) | {"shape": list(s.shape), "verdict": s.verdict} for s in self.spectra]
        return {"folder": str(self.folder), "layers": layers, "n_small": self.n_small, "means": self.means,
                "reading": self.reading}  # fmt: skip


def health(folder: Path, *, reporter: Reporter | None = None) -> Health:
    """Return the spectra of a saved model's weights.

    Args:
        folder: a run's, or a model's.
        reporter: who tells of progress.

    Raises:
        RunError: there is no model, or it is damaged.
    """
    model = find_model(folder)
    backbone = open_saved(model, read_metadata(model)).backbone
    weights = [(name, v) for name, v in backbone.named_parameters() if v.ndim > 1 and v.is_floating_point()]
    found: list[Spectrum] = []
    with (reporter or Reporter()).bar("spectra", len(weights), "matrices") as bar:
        for name, value in weights:
            one = spectrum(name, value.detach().float().cpu().numpy())
            found += [] if one is None else [one]
            bar.advance(1)
    n_small = len(weights) - len(found)
    return Health(model, tuple(found), n_small, reading(found, n_small))
