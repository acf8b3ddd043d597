"""A project on disk that trains in a second: messages, a tiny BERT with dropout, and a config."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from etude import cli

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
WORDS = [
    "where",
    "is",
    "my",
    "parcel",
    "give",
    "me",
    "money",
    "back",
    "please",
    "now",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
]
TEXTS = {"order": "where is my parcel", "refund": "give me my money back"}
ENDINGS = ["a", "b", "c", "d", "e", "f", "g", "h", "now", "please", "back", "money"]

CONFIG = """
[data]
train = "messages.csv"
test = "held_out.csv"
validation = 0.25

[backbone]
path = "tiny"
pooling = "mean"
max_length = 16

[train]
epochs = 6
batch_size = 8
precision = "fp32"
save_every = "5st"
evaluate_every = "6st"
log_every = "1st"

[techniques.ema]

[techniques.hidden_mixup]

[run]
dir = "run"
baselines = false  # a second for each run, which tests of their own spend
resamples = 100
"""


def write_project(folder: Path) -> None:
    rows = [f"{text} {ending},{label}" for ending in ENDINGS for label, text in TEXTS.items()]
    held_out = [f"please {text},{label}" for label, text in TEXTS.items()]
    (folder / "messages.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (folder / "held_out.csv").write_text("\n".join(["text,label", *held_out]) + "\n")
    (folder / "config.toml").write_text(CONFIG)
    vocabulary = {word: number for number, word in enumerate([*SPECIAL.values(), *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder / "tiny")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder / "tiny")


def etude(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0)
