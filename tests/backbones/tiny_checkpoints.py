"""Tiny random checkpoints of nine architectures, each with a tokenizer."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, Qwen2Tokenizer

SENTENCE = "the card was lost please send a new one where is my money account closed open help"
ENCODERS = ("bert", "distilbert", "roberta", "deberta-v2", "electra", "modernbert")
DECODERS = ("llama", "gpt2", "qwen2")
ARCHITECTURES = (*ENCODERS, *DECODERS)

_COMMON = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
_OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"vocab_size": 40, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24},
    "electra": {**_COMMON, "embedding_size": 8},
    "deberta-v2": {
        **_COMMON,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "pooler_hidden_size": 16,
    },
    "modernbert": {**_COMMON, "global_attn_every_n_layers": 2, "local_attention": 8, "attention_dropout": 0.1,
                   "embedding_dropout": 0.1, "mlp_dropout": 0.1},
    "llama": {**_COMMON, "num_key_value_heads": 1, "attention_dropout": 0.1},
    "qwen2": {**_COMMON, "num_key_value_heads": 1, "attention_dropout": 0.1},
    "gpt2": {"vocab_size": 40, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40},
}  # fmt: skip


def write_tokenizer(folder: Path, architecture: str) -> None:
    if architecture == "qwen2":  # transformers insists on this class; its words are single letters here
        letters = {letter: i for i, letter in enumerate(["<|endoftext|>", "</s>", "Ġ", *ascii_lowercase])}
        names: dict[str, Any] = {"pad_token": None, "eos_token": "</s>"}
        Qwen2Tokenizer(vocab=letters, merges=[], **names).save_pretrained(folder)
        return
    decoder = architecture in DECODERS
    special = ["<s>", "</s>"] if decoder else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, "[other]", *SENTENCE.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[other]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"bos_token": "<s>", "eos_token": "</s>"} if decoder else {
        "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        "unk_token": "[UNK]",
    }  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def write_checkpoint(folder: Path, architecture: str) -> None:
    decoder = architecture in DECODERS
    ids = {"bos_token_id": 0, "eos_token_id": 1} if decoder else {"pad_token_id": 0, "cls_token_id": 2}
    config = AutoConfig.for_model(architecture, **{**_OWN.get(architecture, _COMMON), **ids})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModel.from_config(config)
        for value in model.parameters():  # larger than usual, so that mistakes are visible
            if value.ndim > 1:
                value.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    write_tokenizer(folder, architecture)
