"""The catalogue of metric names: what is in it, and what is said of names that are not."""

import subprocess
import sys

import pytest

from etude.core.task import Binary, Multiclass, Multilabel, Task
from etude.errors import ConfigError
from etude.evaluation.names import PLAIN, check_metric, default_metrics, find_metric, quick_metrics

KINDS: tuple[type[Task], ...] = (Binary, Multiclass, Multilabel)


def test_names_are_known_without_torch() -> None:
    code = "import sys, etude.evaluation.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("task", KINDS)
def test_default_and_main_metrics_suit_their_tasks(task: type[Task]) -> None:
    names = default_metrics(task.kind)
    assert len(names) == len(set(names)) >= 15
    assert [check_metric(name, task.kind).name for name in names] == list(names)
    assert task.main_metric in quick_metrics(task.kind)


def test_quick_metrics_need_no_order_of_scores() -> None:
    left_out = set(default_metrics("multilabel")) - set(quick_metrics("multilabel"))
    assert left_out == {"roc_auc", "average_precision", "ece"}


def test_every_plain_metric_says_what_it_means() -> None:
    assert len(PLAIN) == 16
    for metric in PLAIN.values():
        assert metric.meaning
        assert metric.kinds
    worse = {name for name, metric in PLAIN.items() if not metric.greater_is_better}
    assert worse == {"hamming_loss", "loss", "brier", "coverage_error", "ece"}


def test_families_by_pattern() -> None:
    assert check_metric("f0.5_macro", "multiclass").beta == 0.5
    assert check_metric("f2", "binary").meaning.endswith("of the positive label")
    assert check_metric("top10_accuracy", "multiclass").k == 10
    assert check_metric("jaccard_samples", "multilabel").average == "samples"


@pytest.mark.parametrize(
    "name", ["f0", "f1.0_macro", "f01", "f_macro", "top0_accuracy", "top_accuracy", "f1_", ""]
)
def test_what_no_family_has(name: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        find_metric(name)


def test_mistakes_name_the_closest_metric() -> None:
    with pytest.raises(ConfigError, match=r"metric 'f1_makro' is unknown; did you mean 'f1_macro'\?"):
        check_metric("f1_makro", "multilabel")
    with pytest.raises(ConfigError, match=r"metric 'acuracy' is unknown; did you mean 'accuracy'\?"):
        find_metric("acuracy")


def test_metrics_of_other_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"metric 'f1' is for binary tasks, and this one is multilabel"):
        check_metric("f1", "multilabel")
    with pytest.raises(
        ConfigError, match=r"'mcc' is for binary and multiclass tasks, and this one is multilabel"
    ):
        check_metric("mcc", "multilabel")
    with pytest.raises(ConfigError, match=r"'f1_samples' is for multilabel tasks, and this one is binary"):
        check_metric("f1_samples", "binary")
