"""Parts are found by name, made of JSON settings, and refused with a sentence where they are unknown."""

import json

import pytest
import torch
from torch import Tensor, nn

from etude.errors import ConfigError, ConflictError
from etude.parts import Head, LabelLayer, Part, Pooler, StackedHead, make_part, parts
from etude.parts.placing import feature_width, fresh, n_layers
from etude.testing.tiny import TinyMLP, TinyTransformer


def test_an_unknown_part_is_named_with_the_closest() -> None:
    with pytest.raises(
        ConfigError, match=r"no part 'cnn_hed'; did you mean 'cnn_head'\?; a newer version of etude may"
    ):
        make_part("cnn_hed", {})


def test_settings_of_another_version_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'layer_pooling' cannot be made of the settings \{'depth': 2\}"):
        make_part("layer_pooling", {"depth": 2})


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ConfigError, match="transformer_head: heads = 3 does not divide the width 8"):
        make_part(
            "transformer_head",
            {"width": 8, "layers": 1, "heads": 3, "hidden": 8, "tokens": "mean", "dropout": 0.0},
        )
    with pytest.raises(ConfigError, match="attention_pooling: heads = 3 does not divide the width 8"):
        make_part("attention_pooling", {"width": 8, "heads": 3, "hidden": 8})


def test_every_part_is_found_by_its_own_name() -> None:
    kinds = [kind for kind in parts().values() if issubclass(kind, (Head, LabelLayer, Pooler))]
    assert len(kinds) >= 9
    assert all(kind.name == name for name, kind in parts().items())


def test_settings_are_json_and_make_the_part_again() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    part = make_part("cnn_head", {"width": 4, "windows": [1, 2], "filters": 3, "dropout": 0.1})
    assert torch.equal(before, torch.get_rng_state())
    again = make_part(part.name, json.loads(json.dumps(part.settings)))
    assert {n: v.shape for n, v in again.state_dict().items()} == {
        n: v.shape for n, v in part.state_dict().items()
    }


class Plain(Part):
    """Holds one of each kind of parameter."""

    name = "plain"
    from_zero = frozenset({"nought.weight"})

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.nought, self.norm = nn.Linear(400, 300), nn.Linear(2, 2), nn.LayerNorm(3)


def test_first_weights() -> None:
    part = fresh(Plain, 5)
    assert part.dense.weight.std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert not part.dense.bias.any()
    assert not part.nought.weight.any()
    assert torch.equal(part.norm.weight, torch.ones(3))
    assert torch.equal(fresh(Plain, 5).dense.weight, part.dense.weight)
    assert not torch.equal(fresh(Plain, 6).dense.weight, part.dense.weight)


class Doubled(LabelLayer):
    """Doubles in prediction."""

    name = "doubled"

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.full((2,), 7.0))

    def infer(self, logits: Tensor) -> Tensor:
        return 2 * logits


def test_a_label_layer_hands_on_in_training_and_infers_afterwards() -> None:
    head = StackedHead(nn.Linear(3, 2), Doubled())
    features = torch.randn(4, 3)
    plain = head.base(features)
    trained = head(features)
    assert torch.equal(trained, plain)
    trained.sum().backward()
    # A gradient of zero and not of None: processes that share the work count on it.
    assert torch.equal(head.labels.extra.grad, torch.zeros(2))  # type: ignore[arg-type]
    head.labels.refuse_rest()
    assert torch.equal(head.eval()(features), 2 * plain)
    with pytest.raises(
        ConflictError, match=r"doubled needs the head's logits .* and the head is frozen; let the"
    ):
        head.labels.refuse_rest()


def test_widths_and_depths() -> None:
    assert feature_width(TinyMLP(3, d_hidden=5), "x") == 5
    assert n_layers(TinyTransformer(3, n_blocks=4)) == 4
    odd = TinyMLP(3)
    odd.head = nn.Sequential(nn.ReLU())
    with pytest.raises(ConflictError, match=r"x learns the width of the features .* Sequential has none"):
        feature_width(odd, "x")


@pytest.mark.parametrize("kind", [Head, Pooler])
def test_a_part_without_forward_says_so(kind: type[Part]) -> None:
    with pytest.raises(NotImplementedError, match="lacks forward"):
        kind()(*[torch.zeros(1)] * (2 if kind is Pooler else 1))
