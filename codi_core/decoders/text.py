"""Sentences ↔ one latent vector each (OPTIMUS): BERT reads, GPT-2 writes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import align_module_device
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DynamicCache,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerBase,
)

from ..errors import CheckpointError, ConfigError
from ..modality import Modality
from ..placement import device_of
from ..precision import require_finite
from .latent import check_latent
from .wording import sentence, without_repeats

ENCODER_TOKENIZER = "encoder_tokenizer"
DECODER_TOKENIZER = "decoder_tokenizer"
SPECIAL_TOKENS = ("<PAD>", "<BOS>", "<EOS>")
"""The last three of GPT-2's vocabulary, in this order."""

CACHE = "cache" if "cache" in inspect.signature(GPT2Model.forward).parameters else "past_key_values"
"""What GPT-2 calls the keys and values of earlier tokens; transformers 5.24 gave them another name."""


class TextAutoencoder(ModelMixin, ConfigMixin):
    """A sentence autoencoder: text → BERT → posterior of a latent vector → GPT-2 → text.

    The latent reaches GPT-2 in two ways: as memory, one vector per layer that is both key and value of a
    position before the first token, and as embedding, added to every token. So token positions start at 1.

    encoder: `BertConfig` arguments. decoder: `GPT2Config` arguments; its vocabulary ends with SPECIAL_TOKENS.
    maximum_tokens: of a generated row, its begin and end token included.
    """

    @register_to_config
    def __init__(self, encoder: dict[str, Any], decoder: dict[str, Any], latent_width: int, maximum_tokens: int = 30):
        super().__init__()
        bert = BertConfig(**encoder)
        gpt2 = GPT2Config(**{"bos_token_id": None, "eos_token_id": None, **decoder})  # ours come last
        if not 2 <= maximum_tokens <= gpt2.n_positions:
            raise ConfigError(
                f"wanted maximum_tokens between 2 and the decoder's {gpt2.n_positions} positions, "
                f"got {maximum_tokens}; change one of the two"
            )
        self.bert = BertModel(bert)
        self.to_posterior = nn.Linear(bert.hidden_size, 2 * latent_width, bias=False)
        self.gpt2 = GPT2Model(gpt2)
        self.to_memory = nn.Linear(latent_width, gpt2.n_layer * gpt2.n_embd, bias=False)
        self.to_embedding = nn.Linear(latent_width, gpt2.n_embd, bias=False)
        self.pad_id, self.begin_id, self.end_id = range(gpt2.vocab_size - 3, gpt2.vocab_size)
        self._tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase] | None = None

    def attach_tokenizers(self, folder: Path | str) -> None:
        """Load both tokenizers from sub-folders. Raises CheckpointError if they do not fit the weights."""
        encoder, decoder = (_tokenizer(Path(folder) / name) for name in (ENCODER_TOKENIZER, DECODER_TOKENIZER))
        wanted = (self.bert.config.vocab_size, self.gpt2.config.vocab_size)
        got = (len(encoder), len(decoder))
        last = decoder.convert_ids_to_tokens([self.pad_id, self.begin_id, self.end_id])
        if got != wanted or last != list(SPECIAL_TOKENS):
            raise CheckpointError(
                f"wanted tokenizers of {wanted[0]} and {wanted[1]} tokens, the latter ending with "
                f"{' '.join(SPECIAL_TOKENS)}, got {got[0]} and {got[1]}, ending with {last}, from {folder}; "
                "use those that the text autoencoder was trained with"
            )
        self._tokenizers = encoder, decoder

    @property
    def tokenizer_encoder(self) -> PreTrainedTokenizerBase:
        return self._require_tokenizers()[0]

    @property
    def tokenizer_decoder(self) -> PreTrainedTokenizerBase:
        return self._require_tokenizers()[1]

    def encoder_ids(self, texts: Sequence[str]) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
        """What BERT reads, and 1 where it is no padding. Long texts are cut at BERT's last position.

        The official vocabulary is cased, but its texts were lower-cased first.
        """
        lowered = [text.lower() for text in texts]
        rows = self.tokenizer_encoder(lowered, padding=True, return_tensors="pt")
        longest = self.bert.config.max_position_embeddings
        ids, mask = (rows[name][:, :longest].to(device_of(self)) for name in ("input_ids", "attention_mask"))
        return ids, mask

    def decoder_ids(self, texts: Sequence[str]) -> Int[Tensor, "batch tokens"]:
        """What GPT-2 should write: begin, tokens, end, padding. Long texts are cut before the end token."""
        rows = []
        for text in texts:
            # every word, also the first, has a space in front: `sentence` relies on it
            spaced = f" {text.strip()}".rstrip()
            tokens = self.tokenizer_decoder(spaced, add_special_tokens=False)["input_ids"]
            tokens = tokens[: self.config["maximum_tokens"] - 2]
            rows.append(torch.tensor([self.begin_id, *tokens, self.end_id], device=device_of(self)))
        return pad_sequence(rows, batch_first=True, padding_value=self.pad_id)

    def decoded(self, ids: Sequence[int]) -> str:
        """The characters of one row as the released model joins them, with " <BOS>" and the like in full."""
        pieces = []
        for is_special, run in groupby(ids, key=lambda token: token >= self.pad_id):
            if is_special:
                pieces += [f" {token}" for token in self.tokenizer_decoder.convert_ids_to_tokens(list(run))]
            else:
                pieces.append(self.tokenizer_decoder.decode(list(run), clean_up_tokenization_spaces=False))
        return "".join(pieces)

    def encode_tokens(
        self, ids: Int[Tensor, "batch tokens"], mask: Int[Tensor, "batch tokens"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and logarithm of the variance of the (unscaled) posterior."""
        pooled = self.bert(input_ids=ids, attention_mask=mask).pooler_output
        mean, log_variance = self.to_posterior(pooled).chunk(2, dim=-1)
        return mean, log_variance

    def logits(
        self, ids: Int[Tensor, "batch tokens"], latent: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """For every token the scores of its successor, given the unscaled latent (teacher forcing)."""
        return self._advance(ids, latent, self._memory(latent), position=1)

    @torch.no_grad()
    def generate(
        self,
        latent: Float[Tensor, "batch latent"],
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:
        """Token ids of each row, from the begin token to the end token, given the unscaled latent.

        temperature: 0 takes the likeliest token; 1 draws from the distribution, as the released model does.
        generator: on the CPU, so that a seed gives the same text on every device.
        """
        if temperature < 0:
            raise ConfigError(f"wanted a temperature of at least 0, got {temperature}; 0 is the likeliest text")
        written = token = torch.full((len(latent), 1), self.begin_id, device=latent.device)
        cache = self._memory(latent)
        # the last place is the end token's, whatever the model says
        for position in range(1, self.config["maximum_tokens"] - 1):
            logits = self._advance(token, latent, cache, position)
            token = _draw(require_finite(logits[:, -1], "text_autoencoder", self), temperature, generator)
            written = torch.cat([written, token], dim=1)
            if written.eq(self.end_id).any(dim=1).all():
                break
        rows = [[*row, self.end_id] for row in written.tolist()]
        return [row[: row.index(self.end_id) + 1] for row in rows]

    def _memory(self, latent: Float[Tensor, "batch latent"]) -> DynamicCache:
        config = self.gpt2.config
        cache = DynamicCache()
        for layer, memory in enumerate(self.to_memory(latent).chunk(config.n_layer, dim=-1)):
            heads = memory.unflatten(-1, (config.n_head, 1, -1))
            cache.update(heads, heads, layer)
        return cache

    def _advance(
        self,
        ids: Int[Tensor, "batch tokens"],
        latent: Float[Tensor, "batch latent"],
        cache: DynamicCache | None,
        position: int,
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Logits of the tokens that begin at this position. The cache then holds them too."""
        output = self.gpt2(
            inputs_embeds=self.gpt2.wte(ids) + self.to_embedding(latent)[:, None],
            position_ids=torch.arange(position, position + ids.shape[1], device=ids.device)[None],
            use_cache=True,
            **{CACHE: cache},
        )
        # The embedding's weights score the words too; where layers are offloaded they must be fetched for that.
        with align_module_device(self.gpt2.wte):
            return nn.functional.linear(output.last_hidden_state, self.gpt2.wte.weight)

    def _require_tokenizers(self) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
        if self._tokenizers is None:
            raise CheckpointError(
                f"wanted a text autoencoder with {ENCODER_TOKENIZER}/ and {DECODER_TOKENIZER}/, got one without; add "
                "these with `codi convert FOLDER` and the model's folder, and --tokenizers if the hub is out of reach"
            )
        return self._tokenizers


@dataclass(frozen=True)
class TextCodec:
    """Texts ↔ latent (batch, width): the scaled mean of the posterior."""

    autoencoder: TextAutoencoder
    latent_scale: float

    @torch.no_grad()
    def encode(self, media: str | Sequence[str]) -> Float[Tensor, "batch width"]:
        texts = [media] if isinstance(media, str) else media
        mean, _ = self.autoencoder.encode_tokens(*self.autoencoder.encoder_ids(texts))
        return self.latent_scale * mean.float()

    def decode(
        self,
        latent: Float[Tensor, "batch width"],
        seconds: float | None = None,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """One cleaned sentence per row. Raises ShapeError for a latent of another model or with NaNs."""
        check_latent(latent, Modality.TEXT, ("batch", self.autoencoder.config["latent_width"]))
        latent = (latent / self.latent_scale).to(device_of(self.autoencoder), self.autoencoder.dtype)
        rows = self.autoencoder.generate(latent, temperature, generator)
        return [without_repeats(sentence(self.autoencoder.decoded(row))) for row in rows]


def _draw(
    logits: Float[Tensor, "batch vocabulary"], temperature: float, generator: torch.Generator | None
) -> Int[Tensor, "batch 1"]:
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    return torch.multinomial(probabilities.cpu(), 1, generator=generator).to(logits.device)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files raise nearly anything
        raise CheckpointError(
            f"wanted a tokenizer in {folder}, got {type(error).__name__}; fetch the model again"
        ) from error
