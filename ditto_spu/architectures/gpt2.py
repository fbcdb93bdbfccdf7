"""Compute GPT-2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from ditto_spu.architectures.attention import attend, causal, places_from, remember
from ditto_spu.architectures.layers import Layers
from ditto_spu.architectures.model import SMALL, Model, language_model
from ditto_spu.checkpoints.stored import Settings

_SIZES = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
}
# All settings that are read. One that is misspelt would get its default.
SETTINGS = frozenset(
    [
        *_SIZES,
        "n_inner",
        "activation_function",
        "add_cross_attention",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "layer_norm_epsilon",
        "tie_word_embeddings",
    ]
)


@dataclass(frozen=True)
class GPT2Config:
    """Sizes and choices of a model. tied: whether the table of tokens is also the language head."""

    vocabulary: int
    positions: int
    width: int
    inner: int
    layers: int
    heads: int
    epsilon: float
    tied: bool

    @classmethod
    def of(cls, settings: Settings) -> GPT2Config:
        """Read the settings of a checkpoint. Raises InputError for those that are not computed here."""
        known = Settings({**_SIZES, **settings.values}, settings.source)
        known.choice("activation_function", "gelu_new", ("gelu_new", "gelu_pytorch_tanh"))
        for name, usual in (
            ("add_cross_attention", False),
            ("scale_attn_weights", True),
            ("scale_attn_by_inverse_layer_idx", False),
        ):
            if known.flag(name, usual) != usual:
                raise known.wrong(name, not usual, str(usual).lower())
        width, heads = known.whole("n_embd"), known.whole("n_head")
        if width % heads:
            raise known.wrong("n_head", heads, f"a divisor of {width}")
        return cls(
            known.whole("vocab_size"),
            known.whole("n_positions"),
            width,
            known.whole("n_inner", 4 * width),
            known.whole("n_layer"),
            heads,
            known.number("layer_norm_epsilon", 1e-5),
            known.flag("tie_word_embeddings", True),
        )


class Dense(nn.Module):
    """Multiply by a kernel [out, in], which is the layout that Flax checkpoints of GPT-2 have."""

    features: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        kernel = self.param("kernel", SMALL, (self.features, x.shape[-1]))
        return x @ kernel.T + self.param("bias", nn.initializers.zeros, (self.features,))


class Attention(nn.Module):
    """Attend to a row's own tokens, and to those of a cache."""

    config: GPT2Config

    @nn.compact
    def __call__(self, x: Any, positions: Any, allowed: Any, cache: Any) -> tuple[Any, Any]:
        import jax.numpy as jnp

        c = self.config
        shape = (*x.shape[:2], c.heads, c.width // c.heads)
        parts = jnp.split(Dense(3 * c.width, name="c_attn")(x), 3, axis=-1)
        query, key, value = (each.reshape(shape) for each in parts)
        kept = remember(cache, key, value, positions)
        return Dense(c.width, name="c_proj")(attend(query, *kept, allowed)), kept


class FeedForward(nn.Module):
    """Compute the feed-forward layer of each token."""

    config: GPT2Config

    @nn.compact
    def __call__(self, x: Any) -> Any:
        inner = nn.gelu(Dense(self.config.inner, name="c_fc")(x), approximate=True)
        return Dense(self.config.width, name="c_proj")(inner)


class Layer(nn.Module):
    """Compute one layer: attention and the feed-forward layer, each added to the residual stream."""

    config: GPT2Config

    @nn.compact
    def __call__(self, x: Any, positions: Any, allowed: Any, cache: Any) -> tuple[Any, Any]:
        c = self.config
        normed = nn.LayerNorm(epsilon=c.epsilon, name="ln_1")(x)
        found, cache = Attention(c, name="attn")(normed, positions, allowed, cache)
        x = x + found
        return x + FeedForward(c, name="mlp")(nn.LayerNorm(epsilon=c.epsilon, name="ln_2")(x)), cache


class Stack(nn.Module):
    """Hold the tables of tokens and positions, the layers, and the last normalisation."""

    config: GPT2Config

    def setup(self) -> None:
        c = self.config
        self.wte = nn.Embed(c.vocabulary, c.width, embedding_init=SMALL)
        self.wpe = nn.Embed(c.positions, c.width, embedding_init=SMALL)
        self.h = Layers(Layer, c)
        self.ln_f = nn.LayerNorm(epsilon=c.epsilon)


class GPT2(nn.Module):
    """Predict the next token. The parameters have the names of torch's and Flax's GPT2LMHeadModel."""

    config: GPT2Config

    def setup(self) -> None:
        self.transformer = Stack(self.config)
        if not self.config.tied:
            self.lm_head = nn.Dense(self.config.vocabulary, use_bias=False, kernel_init=SMALL)

    def __call__(self, tokens: Any, start: Any, mask: Any = None, cache: Any = None, rows: Any = None) -> Any:
        """Return (logits, cache), as `language_model` says."""
        import jax
        import jax.numpy as jnp

        parts = self.transformer
        positions = places_from(start, tokens.shape[1])
        with jax.named_scope("transformer/wte"):
            table = parts.wte.embedding
            x = tokens @ table if tokens.ndim == 3 else jnp.take(table, tokens, axis=0)
        # Padding behind a text may stand where the table ends. Nothing reads it.
        x = x + parts.wpe(jnp.minimum(positions, self.config.positions - 1))
        x, after = parts.h(x, positions, causal(positions, mask, cache), cache)
        x = parts.ln_f(x if rows is None else rows(x))
        if not self.config.tied:
            return self.lm_head(x), after
        with jax.named_scope("wte/attend"):
            return x @ table.T, after


def model(settings: Settings) -> Model:
    """Return the model that the settings describe."""
    config = GPT2Config.of(settings)
    return language_model(config, GPT2(config))
