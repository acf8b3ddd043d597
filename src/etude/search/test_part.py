"""The test part of a study: opened once, when nothing is left to be trained or chosen."""

from __future__ import annotations

from pathlib import Path

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.data.load import load_data
from etude.errors import RunError
from etude.evaluation.metrics import score
from etude.kinds import kind_of
from etude.runs.model import Classifier
from etude.runs.shared import Shared


def score_test_part(config: Config, model: Path, shared: Shared, metric: str) -> dict[str, float]:
    """Return the scores of a saved model on its run's test part.

    Raises:
        RunError: there is no such part.
    """
    data = shared.data(config, lambda: load_data(config, kind_of(config).loader(), Reporter(), None))
    if data.test is None:
        raise RunError("there is no test part to score; set data.test")
    data.test.unlock()
    examples = data.test.open().examples
    classifier = Classifier(model, precision=config.train.precision)
    probabilities, decisions = classifier.decision.apply(classifier.logits_of(examples))
    targets = examples.targets.numpy()
    found = dict(score(data.task, probabilities, targets, decisions))
    return found | score(data.task, probabilities, targets, decisions, [metric])
