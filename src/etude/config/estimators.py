"""``[backbone]`` of models that a library fits as a whole: boosted trees and logistic regression.

They take the place of a network under ``kind = "trees"`` and ``kind = "linear"``; everything around them
(data, decision, report) is configured as for any run.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from etude.config.fields import Probability, SearchRange, Strict, setting

OWN_NAMES = {
    "learning_rate": ("learning_rate", "eta", "shrinkage_rate"),
    "n_rounds": (
        "max_iter", "n_estimators", "num_boost_round", "num_iterations", "num_iteration", "iterations",
        "num_trees", "num_rounds",
    ),
    "early_stopping": (
        "early_stopping", "n_iter_no_change", "early_stopping_round", "early_stopping_rounds", "od_wait",
        "od_type",
    ),
    "max_leaves": ("max_leaf_nodes", "num_leaves", "max_leaves"),
    "min_rows_in_leaf": (
        "min_samples_leaf", "min_data_in_leaf", "min_child_samples", "min_child_weight",
    ),
    "l2": ("l2_regularization", "lambda_l2", "reg_lambda", "lambda", "l2_leaf_reg"),
    "columns_share": ("max_features", "feature_fraction", "colsample_bytree", "rsm", "colsample_bylevel"),
}  # fmt: skip
"""What the libraries call the settings that have a name of their own here."""


class TreesBackboneConfig(Strict):
    """Gradient-boosted trees."""

    kind: Literal["trees"] = setting("trees", help="what the model is")
    library: Literal["sklearn", "lightgbm", "xgboost", "catboost"] = setting(
        "sklearn", help="who grows the trees; all but sklearn come with the extra 'trees'"
    )
    learning_rate: float = setting(
        0.1, help="how much of each tree counts", gt=0.0, le=1.0, search=SearchRange(0.01, 0.3, "log")
    )
    n_rounds: int = setting(
        200, help="rounds at most; each grows one tree, or one for each class", ge=1, unit="rounds"
    )
    early_stopping: Annotated[int, Field(ge=1)] | Literal[False] = setting(
        20,
        help="stop after this many rounds without a lower loss on the validation part, and keep the best "
        "round; with false, or without such a part, all rounds are kept",
        unit="rounds",
    )
    max_leaves: int = setting(
        31, help="leaves of a tree; catboost's are symmetric, of the depth that comes nearest", ge=2,
        le=65536, search=SearchRange(7, 127, "log"),
    )  # fmt: skip
    min_rows_in_leaf: int = setting(
        20, help="rows under a leaf at least; catboost's symmetric trees do not ask", ge=1,
        search=SearchRange(1, 100, "log"),
    )  # fmt: skip
    l2: float | None = setting(
        None, help="penalty on the squares of the leaves' values; absent takes the library's own", ge=0.0,
        search=SearchRange(0.0, 10.0),
    )  # fmt: skip
    columns_share: float = setting(
        1.0, help="share of the columns that are looked at, drawn anew", gt=0.0, le=1.0,
        search=SearchRange(0.3, 1.0),
    )  # fmt: skip
    settings: dict[str, Any] = setting({}, help="further settings of the library, by its own names")

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return False

    @model_validator(mode="after")
    def _one_name_for_each_setting(self) -> Self:
        for ours, theirs in OWN_NAMES.items():
            for name in theirs:
                if name in self.settings:
                    raise ValueError(f"settings.{name} is backbone.{ours} here; set backbone.{ours} instead")
        return self


class LinearBackboneConfig(Strict):
    """Logistic regression: over numbers and categories of a table, or over the words of texts."""

    kind: Literal["linear"] = setting("linear", help="what the model is")
    inputs: Literal["table", "text"] = setting(
        "table", help="the columns of a table, or the texts of data.text and the numbers of data.numeric"
    )
    penalty: Literal["l2", "l1", "elasticnet", "none"] = setting(
        "l2", help="on the weights; l1 and elasticnet make some of them 0, and take longer"
    )
    strength: Literal["auto"] | Annotated[float, Field(gt=0.0)] = setting(
        1.0,
        help="scikit-learn's C: the larger, the weaker the penalty; auto takes the one of 0.01 to 100 that "
        "has the lowest loss on the validation part",
        search=SearchRange(0.001, 1000.0, "log"),
    )
    l1_ratio: Probability = setting(0.5, help="share of l1 in the penalty elasticnet")
    classes: Literal["together", "one_vs_rest"] = setting(
        "together", help="several classes in one softmax, or each against all others"
    )
    max_iter: int = setting(1000, help="iterations of the solver at most", ge=1, unit="iterations")
    tolerance: float = setting(1e-6, help="the solver stops where the gradient is smaller", gt=0.0, lt=1.0)
    max_terms: int = setting(
        50_000, help="of texts: words and pairs of words that count, the most frequent first", ge=1
    )

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return False


EstimatorConfig = TreesBackboneConfig | LinearBackboneConfig
"""The settings of models that are fitted by one call, and not by steps."""
