"""The model call of a step, with every technique of the forward phase wrapped around it."""

from __future__ import annotations

from collections.abc import Sequence

from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.phases import Forward, ModelCall
from etude.core.rng import Moment


def wrapped(call: ModelCall, wraps: Sequence[Forward], moment: Moment) -> ModelCall:
    """Return the call with the wrappers around it, the first of them outermost."""
    for wrap in reversed(wraps):
        call = _wrap(wrap, call, moment)
    return call


def _wrap(wrap: Forward, call: ModelCall, moment: Moment) -> ModelCall:
    def outer(batch: Batch, transform: Transform | None = None) -> Output:
        given = transform

        def inner(batch: Batch, transform: Transform | None = None) -> Output:
            return call(batch, _chain(given, transform))

        return wrap(inner, batch, moment)

    return outer


def _chain(first: Transform | None, second: Transform | None) -> Transform | None:
    if first is None or second is None:
        return first or second
    return lambda backbone, embedding, inputs: second(backbone, first(backbone, embedding, inputs), inputs)
