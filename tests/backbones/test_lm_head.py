"""The masked-LM head of six architectures: equal to transformers' own model, and saved as one."""

from pathlib import Path

import pytest
import torch
from tiny_checkpoints import ENCODERS, SENTENCE, write_checkpoint, write_tokenizer
from transformers import AutoConfig, AutoModelForMaskedLM

from etude.backbones.text import load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.task import Multiclass
from etude.errors import ConfigError
from etude.pretraining.lm_head import MaskedLMHead, load_lm_head
from etude.pretraining.masked_tokens import MaskedTokensPretext

TASK = Multiclass(["a", "b"])


def opened(path: Path, pooling: str = "mean") -> MaskedTokensPretext:
    backbone = load_text_backbone(
        BackboneConfig(path=str(path), pooling=pooling, max_length=20), TASK, seed=0
    )
    head = load_lm_head(backbone, 0)
    return MaskedTokensPretext(backbone, head).eval()


@pytest.mark.parametrize("architecture", ENCODERS)
def test_it_gives_the_logits_of_transformers(architecture: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "bare", architecture)
    config = AutoConfig.from_pretrained(tmp_path / "bare")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForMaskedLM.from_config(config).eval()
    model.save_pretrained(tmp_path / "whole")
    write_tokenizer(tmp_path / "whole", architecture)
    pretext = opened(tmp_path / "whole")
    tokens = pretext.inner.tokenizer([SENTENCE], return_tensors="pt", truncation=True)
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = pretext.inner.layers_from(pretext.inner.embed(inputs), inputs)[-1]
        found, expected = pretext.head(hidden[0]), model(**inputs).logits[0]
    assert torch.allclose(found, expected, atol=1e-4)
    pretext.save(tmp_path / "saved", {"pretrained": []})
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.allclose(again(**inputs).logits[0], expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_bare_checkpoint_gets_a_head_of_the_seed_and_its_pooling_is_kept(
    architecture: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "bare", architecture)
    one, other = opened(tmp_path / "bare"), opened(tmp_path / "bare")
    assert isinstance(one.head, MaskedLMHead)
    theirs = other.head.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in one.head.state_dict().items())
    one.save(tmp_path / "saved", {"pretrained": []})
    auto = BackboneConfig(path=str(tmp_path / "saved"), max_length=20)
    assert load_text_backbone(auto, TASK, seed=0).pooling == "mean"


def test_a_decoder_has_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "gpt2", "gpt2")
    with pytest.raises(
        ConfigError, match=r"transformers has no masked-LM model on GPT2Model; pre-train another"
    ):
        opened(tmp_path / "gpt2", "last")
