"""Cases that one process trains alone, and several together.

Run as ``python worker.py FOLDER`` with the variables that torchrun sets, the first process writes the
weights of every case into the folder.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from etude.core.examples import Examples
from etude.techniques import technique_class
from etude.testing.harness import Setup, make_engine, weights
from etude.testing.tiny import tiny_examples, tiny_task

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "recommended": {
        "no_decay": {}, "length_buckets": {}, "clip": {}, "warmup": {}, "linear_probe": {}, "head_lr": {},
    },
    "weights": {"class_weights": {}, "label_smoothing": {}},
    "hard_examples": {"hard_examples": {"share": 0.5}},
    "sam": {"sam": {"rho": 0.1}, "clip": {}},
    "ema": {"ema": {"decay": 0.5}},
    "freeze": {"freeze": {"until": "4st"}},
    "mixed": {"hidden_mixup": {}, "token_cutout": {}, "sam": {}, "ema": {}},
    "hard_sam_freeze": {"hard_examples": {}, "sam": {}, "freeze": {"until": "1ep"}, "ema": {}},
    "distillation": {"distillation": {}},
    "cached": {"freeze": {"until": "1ep"}, "sgd": {}},
    "contrastive": {"supervised_contrastive": {}, "class_weights": {}},
    "contrastive_filter": {"supervised_contrastive": {}, "noisy_examples": {"after": "0ep"}},
    "adversarial": {"fgm": {}, "adaptive_clip": {}, "swa": {}},
    "easy_first": {"easy_to_hard": {}, "awp": {}, "lawa": {}},
    "quantised_lora": {"quantised": {}, "lora": {"dropout": 0.0}},
    "prefix": {"prefix_tuning": {"mlp": 4}, "ema": {}},
    "depth": {"stochastic_depth": {}, "neftune": {}, "looksam": {}},
    "crops": {"random_crop": {}, "word_edits": {}, "gradient_noise": {}},
}  # fmt: skip

ROWS = {"plain": 17, "hard_examples": 17, "contrastive": 17}
"""The last batch of an epoch has 1 row in these cases, and 5 in the others."""


def run_case(name: str) -> dict[str, Tensor]:
    """Train a case; return its weights, and the logits of the validation part."""
    setup = Setup(n_rows=ROWS.get(name, 21), micro_batch_size=2, double=name != "cached")
    recipe = {technique_class(key): settings for key, settings in CASES[name].items()}
    found: dict[str, Tensor] = {}

    def score(logits: Tensor, examples: Examples) -> dict[str, float]:
        found["logits"] = logits
        return {"rows": float(len(examples))}

    # Three rows are one batch, so that all processes but one have nothing to predict.
    validation = tiny_examples("text", tiny_task("multiclass"), n=3, seed=5)
    engine = make_engine(recipe, setup, validation=validation, score=score)
    engine.fit()
    return {**weights(engine), **found}


def main() -> None:
    """Train every case, and write the weights from the first process."""
    torch.set_num_threads(1)
    for name in CASES:
        found = run_case(name)
        if torch.distributed.get_rank() == 0:
            save_file(found, Path(sys.argv[1]) / f"{name}.safetensors")


if __name__ == "__main__":
    main()
