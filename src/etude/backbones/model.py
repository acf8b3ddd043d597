"""The text backbone: a Hugging Face network, a pooling and a head."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from etude.backbones.attention import use_keyed_attention
from etude.backbones.blocks import find_blocks
from etude.backbones.dropout import DropoutKeys, key_dropout_layers
from etude.backbones.encode import (
    attention_mask_of,
    behind_prompt,
    encode,
    encode_layers,
    own_tokens,
)
from etude.backbones.fast_encoder import encode_fast
from etude.backbones.heads import LinearHead
from etude.backbones.keyed import KeyedBackbone
from etude.backbones.pooling import POOLINGS
from etude.backbones.positions import n_positions
from etude.backbones.prefixes import attention_sizes, hang_prefix
from etude.backbones.saving import save_text_backbone
from etude.backbones.vocabulary import CompactEmbedding, can_compact
from etude.config.numbers import NumberScale
from etude.errors import ConflictError
from etude.parts.prefix import AttentionSizes, Prefix
from etude.parts.prompt import Prompt


class TextBackbone(KeyedBackbone):
    """A network of transformers without its own head, a pooling, and a head.

    Inputs are ``input_ids`` (B, L), ``attention_mask`` (B, L) and, for pairs, ``token_type_ids`` (B, L).
    Padding may stand on either side for decoders; encoders count positions from the left, as
    transformers does, so pad them on the right. A backbone with a scale also takes ``numbers`` (B, K),
    standardised by it, which stand behind the pooled features (B, D) in what the head sees.

    Attributes:
        network: the network under the pooling, in transformers' own class.
        head: from the features (B, D + K) to logits (B, C).
        pooling: ``native``, ``cls``, ``mean``, ``max`` or ``last``.
        pooled_by: the pooling that runs; another one than ``pooling`` only where that is native.
        decoder: whether tokens look back only.
        tokenizer: the checkpoint's tokenizer.
        mask_token_id: id of the mask token; without one the backbone lacks the capability ``"tokens"``.
        pad_token_id: id of the padding token.
        special_ids: ids of all special tokens.
        vocabulary_size: ids of tokens are below it.
        scale: of the numbers beside the text, or none.
        fingerprint: hash of the vocabulary.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"embed", "tokens", "dropout", "linear_head", "parts", "prompt", "prefix"}
    )

    def __init__(
        self,
        network: Any,
        head: nn.Module,
        tokenizer: Any,
        keys: DropoutKeys,
        *,
        pooling: str,
        pooled_by: str,
        decoder: bool,
        scale: NumberScale | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            network: a transformers model without head; its configuration names the labels.
            head: see the class.
            tokenizer: see the class.
            keys: what the head's dropout draws from; the network's will too.
            pooling: see the class.
            pooled_by: see the class.
            decoder: see the class.
            scale: see the class.
        """
        super().__init__(keys)
        self.network, self.head, self.tokenizer = network, head, tokenizer
        self.pooling, self.pooled_by, self.decoder = pooling, pooled_by, decoder
        self._pool = POOLINGS[pooled_by]
        key_dropout_layers(self, keys)
        if not use_keyed_attention(network, keys):
            self.capabilities = self.capabilities - {"prefix"}  # type: ignore[misc]  # of this one only
        network.config.pad_token_id = tokenizer.pad_token_id
        self.pad_token_id: int = tokenizer.pad_token_id
        self.mask_token_id: int | None = tokenizer.mask_token_id
        self.special_ids: tuple[int, ...] = tuple(sorted(set(tokenizer.all_special_ids)))
        self.vocabulary_size: int = min(len(tokenizer), network.get_input_embeddings().num_embeddings)
        self.scale = scale
        self.n_numbers = 0 if scale is None else len(scale.columns)
        self.fingerprint = fingerprint_of(tokenizer)
        if self.mask_token_id is None:
            self.capabilities = self.capabilities - {"tokens"}  # type: ignore[misc]  # as above
        if not isinstance(head, LinearHead):
            self.capabilities = self.capabilities - {"linear_head"}  # type: ignore[misc]  # as above

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        embedding: Tensor = self.network.get_input_embeddings()(inputs["input_ids"])
        return embedding

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        own = attention_mask_of(inputs)
        embedding, mask, inputs = behind_prompt(self.prompt, embedding, own, inputs)
        if self.gives_all_layers:
            layers = encode_layers(self.network, embedding, mask, inputs, decoder=self.decoder)
            return tuple(own_tokens(hidden, own) for hidden in layers)
        hidden = None
        if self.prefix is None:
            hidden = encode_fast(self.network, embedding, mask, inputs, self._keys)
        if hidden is None:
            hidden = encode(self.network, embedding, mask, inputs, decoder=self.decoder)
        return (own_tokens(hidden, own),)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        mask = attention_mask_of(inputs)
        pooled: Tensor = self._pool(layers[-1], mask) if self.pooler is None else self.pooler(layers, mask)
        return torch.cat([pooled, inputs["numbers"]], dim=1) if self.n_numbers else pooled

    def put_prompt(self, prompt: nn.Module) -> None:
        room, longest = n_positions(self.network.config), self.tokenizer.model_max_length
        n_tokens = prompt.n_tokens if isinstance(prompt, Prompt) else 0
        # A checkpoint's tokenizer may name no length; ours has that of the run.
        if room is not None and longest <= room < longest + n_tokens:
            raise ConflictError(
                f"a prompt of {n_tokens} tokens and texts of {longest} are more than the {room} positions of "
                f"{type(self.network).__name__}; lower backbone.max_length or take a shorter prompt"
            )
        super().put_prompt(prompt)

    def put_prefix(self, prefix: nn.Module) -> None:
        if isinstance(prefix, Prefix):
            hang_prefix(self.network, prefix)
        super().put_prefix(prefix)

    def attention_sizes(self) -> AttentionSizes:
        """What a prefix must look like.

        Raises:
            ConflictError: the network takes none.
        """
        return attention_sizes(self.network, decoder=self.decoder)

    @property
    def in_front(self) -> list[nn.Module]:
        """The prompt and the prefix, as far as there are any."""
        return [module for module in (self.prompt, self.prefix) if module is not None]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        (name, embeddings), *layers = find_blocks(self.network)
        first = nn.ModuleList([embeddings, *self.in_front]) if self.in_front else embeddings
        pooler = [] if self.pooler is None else [("pooler", self.pooler)]
        return [(name, first), *layers, *pooler, ("head", self.head)]

    def compact(self, token_ids: NDArray[np.int64]) -> bool:
        """Train only the embedding rows of these tokens and of the special tokens.

        To be called before the optimizer is made, and only where embeddings have no weight decay.

        Returns:
            Whether it was done; not where the table is used elsewhere in the network as well.
        """
        embedding = self.network.get_input_embeddings()
        if not can_compact(self.network, embedding):
            return False
        kept = np.union1d(token_ids, np.asarray(self.special_ids, dtype=np.int64)).astype(np.int64)
        kept = kept[(kept >= 0) & (kept < embedding.num_embeddings)]
        self.network.set_input_embeddings(CompactEmbedding(embedding, kept))
        return True

    def expand(self) -> None:
        """Undo :meth:`compact`: an ordinary embedding again, with the trained rows."""
        embedding = self.network.get_input_embeddings()
        if isinstance(embedding, CompactEmbedding):
            self.network.set_input_embeddings(embedding.expand())

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        save_text_backbone(self, folder, metadata)


def fingerprint_of(tokenizer: Any) -> str:
    """Return a hash of a tokenizer's vocabulary: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for word, number in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{word}\0{number}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]
