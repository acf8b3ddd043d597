"""The multi-sample dropout head: one linear layer under several dropouts, whose logits are averaged.

Inoue 2019 (1905.09788); in the form that Kaggle's solutions use, with the mean of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from etude.parts.base import Head


class MultiSampleDropoutHead(Head):
    """The mean of the logits of one linear layer on several dropped-out copies of the features.

    Args:
        d_in: width D of the features.
        n_classes: C.
        rates: the drop rate of each copy.
    """

    name = "multi_sample_dropout"

    def __init__(self, d_in: int, n_classes: int, rates: Sequence[float]) -> None:
        super().__init__(d_in=d_in, n_classes=n_classes, rates=[float(rate) for rate in rates])
        self.dropouts = nn.ModuleList(nn.Dropout(rate) for rate in rates)
        self.out = nn.Linear(d_in, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C), in the layer's own precision under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.out.weight.dtype)
            if self.training:
                # The layer is linear: the mean of its outputs is its output of the mean.
                features = torch.stack([dropout(features) for dropout in self.dropouts]).mean(dim=0)
            logits: Tensor = self.out(features)
        return logits

    def for_inference(self) -> nn.Module:
        """The head to save: the linear layer under one dropout, which predicts the same."""
        return nn.Sequential(nn.Dropout(self.settings["rates"][0]), self.out)
