"""A project of texts whose words follow from each other, with a tiny BERT that knows none of them."""

from itertools import product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
           "mask_token": "[MASK]"}  # fmt: skip
SUBJECTS = {"parcel": "where is my parcel", "money": "please give me my money back", "card": "i lost my card"}
LABELS = {"parcel": "order", "money": "refund", "card": "account"}
TIMES = ["today", "now", "again", "since monday", "for a week", "this morning", "at once", "still"]
ENDS = ["thanks", "please help", "regards", "yours", "cheers"]


def write_texts(folder: Path) -> None:
    rows = [f"{SUBJECTS[s]} {t} {e},{LABELS[s]}" for s, t, e in product(SUBJECTS, TIMES, ENDS)]
    (folder / "messages.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    words = sorted({word for row in rows for word in row.split(",")[0].split()})
    vocabulary = {word: number for number, word in enumerate([*SPECIAL.values(), *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder / "tiny")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder / "tiny")


def text_config(**sections: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "data": {"train": "messages.csv", "validation": 0.2},
        "backbone": {"path": "tiny", "max_length": 16},
        "train": {"epochs": 2, "batch_size": 16, "precision": "fp32", "save_every": "3st"},
        "pretrain": {"epochs": 20, "lr": 3e-3},
        "optimizer": {"lr": 1e-3},
        "run": {"dir": "run", "baselines": False, "resamples": 0, "report": False},
    }
    for name, section in sections.items():
        config[name] = config.get(name, {}) | section if isinstance(section, dict) else section
    return config
