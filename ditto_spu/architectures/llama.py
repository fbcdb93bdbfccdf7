"""Compute the Llama family: Llama, Mistral, Qwen 2 and 2.5, SmolLM2 and others of the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from ditto_spu.architectures.attention import attend, causal, places_from, remember
from ditto_spu.architectures.layers import Layers
from ditto_spu.architectures.model import SMALL, Model, language_model
from ditto_spu.architectures.rotary import SETTINGS as ROTARY
from ditto_spu.architectures.rotary import frequencies, turn
from ditto_spu.checkpoints.stored import Settings

# The defaults of each family, which config.json leaves out.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"attention_bias": True, "use_sliding_window": False},
}
_SIZES = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": True,
}
FAMILIES = tuple(_DEFAULTS)
# All settings that are read. One that is misspelt would get its default.
SETTINGS = ROTARY | frozenset(
    [
        *_SIZES,
        "model_type",
        "hidden_act",
        "num_key_value_heads",
        "head_dim",
        "rotary_width",
        "partial_rotary_factor",
        "attention_bias",
        "mlp_bias",
        "sliding_window",
        "rms_norm_eps",
        "tie_word_embeddings",
    ]
)


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes and choices of a model.

    frequencies: radians per token of each pair of a head, scaling included.
    input_bias, output_bias, mlp_bias: which products have biases: those of queries, keys and values, that of
        the context, and those of the gated layer.
    window: how many tokens back a token sees, itself included. None is all of them.
    tied: whether the table of tokens is also the language head.
    """

    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    shared_heads: int
    head_width: int
    positions: int
    epsilon: float
    frequencies: tuple[float, ...]
    input_bias: bool
    output_bias: bool
    mlp_bias: bool
    window: int | None
    tied: bool

    @classmethod
    def of(cls, settings: Settings) -> LlamaConfig:
        """Read the settings of a checkpoint. Raises InputError for those that are not computed here."""
        kind = settings.choice("model_type", "llama", FAMILIES)
        known = Settings({**_SIZES, **_DEFAULTS[kind], **settings.values}, settings.source)
        known.choice("hidden_act", "silu", ("silu", "swish"))
        heads = known.whole("num_attention_heads")
        shared, width = known.whole("num_key_value_heads", heads), known.whole("hidden_size")
        head_width = known.whole("head_dim", max(width // heads, 1))
        if heads % shared or head_width % 2:
            raise known.wrong(
                "num_attention_heads", heads, f"a multiple of {shared}, and heads of even width"
            )
        for name, whole in (("rotary_width", head_width), ("partial_rotary_factor", 1.0)):
            if known.number(name, whole) != whole:  # models that turn a part of each head alone
                raise known.wrong(name, known.values[name], str(whole))
        bias = known.flag("attention_bias", False)
        windowed = known.values.get("sliding_window") is not None and known.flag("use_sliding_window", True)
        if windowed and kind == "qwen2":
            raise known.wrong(
                "use_sliding_window", True, "false: windows in some layers alone are not supported"
            )
        return cls(
            known.whole("vocab_size"),
            width,
            known.whole("intermediate_size"),
            known.whole("num_hidden_layers"),
            heads,
            shared,
            head_width,
            known.whole("max_position_embeddings"),
            known.number("rms_norm_eps", 1e-6),
            frequencies(known, head_width),
            bias,
            bias and kind != "qwen2",
            known.flag("mlp_bias", False),
            known.whole("sliding_window") if windowed else None,
            known.flag("tie_word_embeddings", False),
        )


def _dense(features: int, bias: bool, name: str | None = None) -> nn.Dense:
    return nn.Dense(features, use_bias=bias, kernel_init=SMALL, name=name)


class RMSNorm(nn.Module):
    """Divide rows by their root mean square, and scale them."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Any) -> Any:
        import jax
        import jax.numpy as jnp

        weight = self.param("weight", nn.initializers.ones, (x.shape[-1],))
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * weight


class Attention(nn.Module):
    """Attend to a row's own tokens, and to those of a cache."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, x: Any, positions: Any, allowed: Any, cache: Any) -> tuple[Any, Any]:
        import jax

        c = self.config
        batch, length, _ = x.shape

        def heads(name: str, count: int) -> Any:
            found = _dense(count * c.head_width, c.input_bias, name)(x)
            return found.reshape(batch, length, count, c.head_width)

        query, key = heads("q_proj", c.heads), heads("k_proj", c.shared_heads)
        value = heads("v_proj", c.shared_heads)
        with jax.named_scope("rotary_emb"):
            query, key = (turn(each, positions, c.frequencies) for each in (query, key))
        kept = remember(cache, key, value, positions)
        context = attend(query, *kept, allowed)
        return _dense(c.width, c.output_bias, "o_proj")(context), kept


class Gated(nn.Module):
    """Compute the gated layer of each token."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, x: Any) -> Any:
        c = self.config
        gate = _dense(c.inner, c.mlp_bias, "gate_proj")(x)
        up = _dense(c.inner, c.mlp_bias, "up_proj")(x)
        return _dense(c.width, c.mlp_bias, "down_proj")(nn.silu(gate) * up)


class Layer(nn.Module):
    """Compute one layer: attention and the gated layer, each added to the residual stream."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, x: Any, positions: Any, allowed: Any, cache: Any) -> tuple[Any, Any]:
        c = self.config
        normed = RMSNorm(c.epsilon, name="input_layernorm")(x)
        found, cache = Attention(c, name="self_attn")(normed, positions, allowed, cache)
        x = x + found
        return x + Gated(c, name="mlp")(RMSNorm(c.epsilon, name="post_attention_layernorm")(x)), cache


class Stack(nn.Module):
    """Look tokens up, and compute the layers."""

    config: LlamaConfig

    def setup(self) -> None:
        self.embed_tokens = nn.Embed(self.config.vocabulary, self.config.width, embedding_init=SMALL)
        self.layers = Layers(Layer, self.config)
        self.norm = RMSNorm(self.config.epsilon)


class Llama(nn.Module):
    """Predict the next token. The parameters have the names of torch's and Flax's LlamaForCausalLM."""

    config: LlamaConfig

    def setup(self) -> None:
        self.model = Stack(self.config)
        if not self.config.tied:
            self.lm_head = _dense(self.config.vocabulary, False)

    def __call__(self, tokens: Any, start: Any, mask: Any = None, cache: Any = None, rows: Any = None) -> Any:
        """Return (logits, cache), as `language_model` says."""
        import jax
        import jax.numpy as jnp

        model, table = self.model, self.model.embed_tokens
        positions = places_from(start, tokens.shape[1])
        with jax.named_scope("model/embed_tokens"):
            x = tokens @ table.embedding if tokens.ndim == 3 else jnp.take(table.embedding, tokens, axis=0)
        allowed = causal(positions, mask, cache, self.config.window)
        x, after = model.layers(x, positions, allowed, cache)
        x = model.norm(x if rows is None else rows(x))
        if not self.config.tied:
            return self.lm_head(x), after
        with jax.named_scope("lm_head"):
            return x @ table.embedding.T, after


def model(settings: Settings) -> Model:
    """Return the model that the settings describe."""
    config = LlamaConfig.of(settings)
    return language_model(config, Llama(config))
