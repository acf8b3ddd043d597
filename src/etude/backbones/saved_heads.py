"""The forms of heads that are saved: ours by their kind, those of techniques as parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys
from etude.backbones.heads import LinearHead, MLPHead, NativeHead, make_head
from etude.errors import RunError
from etude.parts import Head, LabelLayer, Part, StackedHead, make_part


def head_form(head: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and the tensors from which :func:`head_of_form` makes a head again.

    Raises:
        RunError: the head has no form that can be saved.

    >>> form, state = head_form(nn.Linear(4, 3))
    >>> form["kind"], sorted(state)
    ('linear', ['out.bias', 'out.weight'])
    """
    labels = head.labels if isinstance(head, StackedHead) else None
    base = saved_head(head.base if isinstance(head, StackedHead) else head)
    ours = isinstance(base, LinearHead | MLPHead)
    form = {
        "kind": kind_of_head(base),
        "dropout": float(base.dropout.p) if isinstance(base, LinearHead | MLPHead) else 0.0,
        "bias": not isinstance(base, LinearHead) or base.out.bias is not None,
        "label_layer": None if labels is None else described(labels),
    }
    if not ours and not isinstance(base, Head):
        raise RunError(f"the head is a {type(base).__name__}, which only a text backbone can save")
    if labels is None:
        return form, dict(base.state_dict())
    return form, dict(StackedHead(base, labels).state_dict())


def head_of_form(form: Mapping[str, Any], d_in: int, n_classes: int, keys: DropoutKeys) -> nn.Module:
    """Return the head of a form, with weights yet to be read.

    Raises:
        ConfigError: there is no such head or part.
    """
    kind = form["kind"]
    if isinstance(kind, str):
        head = make_head(kind, d_in, n_classes, form["dropout"], keys, bias=form["bias"])
    else:
        head = make_part(kind["name"], kind["settings"])
    if form["label_layer"] is None:
        return head
    layer = make_part(form["label_layer"]["name"], form["label_layer"]["settings"])
    if not isinstance(layer, LabelLayer):
        raise RunError(f"the saved model names the part '{layer.name}' as its label layer; save it again")
    return StackedHead(head, layer)


def kind_of_head(head: nn.Module) -> str | dict[str, Any]:
    """The name of a head of ours, or the name and the settings of a part."""
    if isinstance(head, Part):
        return described(head)
    return {LinearHead: "linear", MLPHead: "mlp", NativeHead: "native"}[type(head)]


def described(part: nn.Module) -> dict[str, Any]:
    """Return the name and the settings that a part is made of again.

    Raises:
        RunError: the module is no part.
    """
    if not isinstance(part, Part):
        raise RunError(
            f"the backbone holds a {type(part).__name__}, which has no saved form; make it a part of "
            "etude.parts"
        )
    return {"name": part.name, "settings": part.settings}


def saved_head(head: Any) -> LinearHead | MLPHead | NativeHead | Head:
    """Return the head to save, which predicts what ``head`` predicts.

    A technique may put its own head on a backbone. If that has a method ``for_inference``, it gives the
    head to save; if it is one linear layer and dropout, that layer is saved.

    Raises:
        RunError: it is none of these, nor a part.
    """
    if hasattr(head, "for_inference"):
        head = head.for_inference()
    if isinstance(head, (LinearHead, MLPHead, NativeHead, Head)):
        return head
    leaves = [module for module in head.modules() if not list(module.children())]
    layers = [module for module in leaves if isinstance(module, nn.Linear)]
    others = [m for m in leaves if not isinstance(m, (nn.Linear, nn.Dropout, nn.Identity))]
    if len(layers) != 1 or others:
        names = ", ".join(type(module).__name__ for module in leaves)
        raise RunError(
            f"the head is made of {names}, which has no saved form; make it a part of etude.parts, or give "
            "its class a method for_inference that returns a LinearHead or an MLPHead"
        )
    return LinearHead.around(layers[0], next((m.p for m in leaves if isinstance(m, nn.Dropout)), 0.0))
