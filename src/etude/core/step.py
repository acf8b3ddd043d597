"""One optimizer step, from a macro-batch to new weights. Read it from top to bottom.

The macro-batch is known in full before the first backward pass. Micro-batches and devices only share
the work: there is one reduction, ``sum(weights * terms) / N``, and one normaliser N, the total weight
of the macro-batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from etude.core import phases
from etude.core.backbone import Backbone, Output, Transform
from etude.core.batch import Batch
from etude.core.devices import Devices
from etude.core.forward import wrapped
from etude.core.plan import Plan
from etude.core.rng import Moment, key
from etude.errors import ConflictError


@dataclass(slots=True)
class StepResult:
    """What a step gives: its loss, its gradient norm where one was computed, and whether it counted."""

    loss: Tensor
    grad_norm: Tensor | None
    done: bool


class Step:
    """The step of a plan.

    Attributes:
        micro_batch_size: rows in one forward pass on one device; may be lowered between steps.
    """

    def __init__(
        self,
        plan: Plan,
        backbone: Backbone,
        model: nn.Module,
        optimizer: Any,
        accelerator: Any,
        micro_batch_size: int,
    ) -> None:
        self.micro_batch_size = micro_batch_size
        self._backbone, self._model = backbone, model
        self._optimizer, self._devices = optimizer, Devices(accelerator)
        self._parameters = list(backbone.parameters())
        self._adjust = plan.many(phases.ADJUST)
        self._augment = plan.many(phases.AUGMENT)
        self._mix = plan.one(phases.MIX)
        self._soften = plan.one(phases.SOFTEN)
        self._perturb = plan.one(phases.PERTURB)
        self._forward = plan.many(phases.FORWARD)
        loss = plan.one(phases.LOSS)
        if loss is None:
            raise ConflictError("the plan has no loss")
        self._loss = loss
        self._extra = plan.many(phases.EXTRA_LOSS)
        self._batch_losses = plan.many(phases.BATCH_LOSS)
        self._weigh_class = plan.one(phases.WEIGH_CLASS)
        self._weigh_example = plan.many(phases.WEIGH_EXAMPLE)
        self._gradient = plan.many(phases.GRADIENT)
        self._average = plan.one(phases.AVERAGE)

    def __call__(self, batch: Batch, moment: Moment) -> StepResult:
        """Take one step with the macro-batch; nothing changes if the loss or the norm is not finite."""
        for adjust in self._adjust:
            adjust(self._backbone, moment)
        for augment in self._augment:
            batch = augment(batch, moment)
        if self._mix is not None:
            batch = self._mix(batch, moment)
        if self._soften is not None:
            batch = batch.replace(targets=self._soften(batch.targets, moment))
        batch = batch.to(self._devices.device)

        gradients = partial(self._gradients, batch, moment)
        if self._perturb is not None:
            trainable = [p for p in self._parameters if p.requires_grad]
            loss = self._perturb(gradients, trainable, moment)
        else:
            loss = gradients()
        return self._update(loss, moment)

    def _gradients(self, batch: Batch, moment: Moment) -> Tensor:
        """Fill ``.grad`` with the gradient of the macro-batch's loss, and return the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        devices, size = self._devices, self.micro_batch_size
        share, first = devices.share(batch), devices.first_micro(batch, size)
        whole = len(share) <= size and devices.n == 1
        total, pulls = batch.weights.new_zeros(()), None
        if (self._weigh_example or self._batch_losses) and not whole:
            losses, features = self._look_ahead(batch, share, first, moment)
            if self._weigh_example:
                batch = batch.replace(weights=batch.weights * self._weigh(losses, batch, moment))
                share = devices.share(batch)
            if self._batch_losses:
                value, pull = self._pull(features, batch, moment)
                total, pulls = value / devices.n, list(devices.share_of(pull, batch).split(size))
        micros = list(share.split(size))
        for i, micro in enumerate(micros):
            last = i == len(micros) - 1
            with nullcontext() if last else devices.no_sync(self._model):
                losses, features = self._losses(micro, moment, first + i)
                weights = micro.weights
                if self._weigh_example and whole:
                    weights = weights * self._weigh(losses.detach(), micro, moment)
                normaliser = weights.sum() if whole else batch.weights.sum()
                loss = (losses * weights).sum() / normaliser.clamp_min(1e-12)
                if self._batch_losses and pulls is None:
                    loss = loss + self._of_batch(features, micro.replace(weights=weights), moment)
                # Its gradient is the batch losses', and its value is in the total already.
                pulled = 0.0 if pulls is None else (features * pulls[i]).sum()
                devices.backward(loss + pulled)
            total = total + loss.detach()
        return devices.sum(total)

    def _losses(self, batch: Batch, moment: Moment, micro: int) -> tuple[Tensor, Tensor]:
        """The loss of each example (B,), before weights, and the features (B, D)."""
        self._backbone.key_randomness(key(moment.seed, "forward", moment.step, micro))
        output = wrapped(self._plain, self._forward, moment)(batch)
        output = _in_full_precision(output)
        losses = self._main(output, batch, moment)
        if output.again is not None:
            losses = (losses + self._main(output.again, batch, moment)) / 2
        for extra in self._extra:
            losses = extra.main_weight * losses + extra.weight * extra.terms(output, batch, moment).sum(dim=1)
        return losses, output.features

    def _main(self, output: Output, batch: Batch, moment: Moment) -> Tensor:
        terms = self._loss(output, batch, moment)
        if self._weigh_class is not None:
            terms = self._weigh_class(terms, batch)
        return terms.sum(dim=1)

    def _plain(self, batch: Batch, transform: Transform | None = None) -> Output:
        output: Output = self._model(batch.inputs, transform)
        return output

    def _weigh(self, losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
        weights = torch.ones_like(losses)
        for weigh in self._weigh_example:
            weights = weights * weigh(losses, batch, moment)
        return weights

    def _look_ahead(self, batch: Batch, share: Batch, first: int, moment: Moment) -> tuple[Tensor, Tensor]:
        """All losses and features of the macro-batch: a pass without gradients in front."""
        micros = share.split(self.micro_batch_size)
        with torch.no_grad():
            found = [self._losses(m, moment, first + i) for i, m in enumerate(micros)]
        losses, features = (torch.cat(part) for part in zip(*found, strict=True))
        return self._devices.gather(losses, batch), self._devices.gather(features, batch)

    def _of_batch(self, features: Tensor, batch: Batch, moment: Moment) -> Tensor:
        return torch.stack([loss(features, batch, moment) for loss in self._batch_losses]).sum()

    def _pull(self, features: Tensor, batch: Batch, moment: Moment) -> tuple[Tensor, Tensor]:
        """The batch losses, and their gradient by the features (Gao et al. 2021, 2101.06983)."""
        leaf = features.detach().requires_grad_()
        with torch.enable_grad():
            value = self._of_batch(leaf, batch, moment)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    def _update(self, loss: Tensor, moment: Moment) -> StepResult:
        """Clip, step, average: all of them, or none where something is not finite."""
        self._devices.unscale()
        norm: Tensor | None = None
        trainable = [p for p in self._parameters if p.grad is not None] if self._gradient else []
        for change in self._gradient:
            said = change(trainable, moment)
            norm = said if norm is None else norm
        finite = torch.isfinite(loss) if norm is None else torch.isfinite(loss + norm)
        # The one place where the host waits for the device: a step that must not count cannot be undone.
        # A gradient scaler looks for itself, and must be told of the step in order to lower its scale.
        if not self._devices.scaled and not bool(finite):
            self._optimizer.zero_grad(set_to_none=True)
            return StepResult(loss, norm, done=False)
        self._optimizer.step()
        if self._devices.skipped():
            return StepResult(loss, norm, done=False)
        if self._average is not None:
            self._average.update(self._backbone, moment)
        return StepResult(loss, norm, done=True)


def _in_full_precision(output: Output) -> Output:
    """Logits in float32, or in float64 where a technique made them so: losses deserve it."""
    logits = output.logits if output.logits.dtype == torch.float64 else output.logits.float()
    again = None if output.again is None else _in_full_precision(output.again)
    return Output(logits, output.features, output.hidden, again)
