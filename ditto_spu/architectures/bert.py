"""Compute BERT, RoBERTa and XLM-RoBERTa: hidden states, sentence embeddings, classes or spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from ditto_spu.architectures.attention import attend
from ditto_spu.architectures.model import Model
from ditto_spu.checkpoints.stored import Settings

_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"pad_token_id": 0},
    "roberta": {"vocab_size": 50265, "pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
}
_ACTIVATIONS = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True}  # whether by tanh
# The end of the class's name in config.json, and what the model returns. Others return hidden states.
_TASKS = {"ForSequenceClassification": "classes", "ForQuestionAnswering": "spans"}
_UNKNOWN_TASKS = ("ForTokenClassification", "ForMultipleChoice")
# All settings that are read. One that is misspelt would get its default.
SETTINGS = frozenset(
    [
        *_SIZES,
        "model_type",
        "pad_token_id",
        "position_embedding_type",
        "is_decoder",
        "add_cross_attention",
        "hidden_act",
        "layer_norm_eps",
        "architectures",
        "pooling",
        "normalised",
        "id2label",
        "num_labels",
    ]
)


@dataclass(frozen=True)
class BertConfig:
    """Sizes and choices of a model.

    first: the position of the first token. None counts from 0 whatever the padding.
    output: "states", "embedding", "classes" or "spans". pooling: "mean" or "cls", of an embedding.
    normalised: whether embeddings are scaled to length 1.
    """

    kind: str
    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    positions: int
    segments: int
    epsilon: float
    by_tanh: bool
    first: int | None
    output: str
    pooling: str
    normalised: bool
    labels: int

    @classmethod
    def of(cls, settings: Settings) -> BertConfig:
        """Read the settings of a checkpoint. Raises InputError for those that are not computed here."""
        kind = settings.choice("model_type", "bert", tuple(_FAMILIES))
        known = Settings({**_SIZES, **_FAMILIES[kind], **settings.values}, settings.source)
        known.choice("position_embedding_type", "absolute", ("absolute",))
        for name in ("is_decoder", "add_cross_attention"):
            if known.flag(name, False):
                raise known.wrong(name, True, "false")
        width, heads = known.whole("hidden_size"), known.whole("num_attention_heads")
        if width % heads:
            raise known.wrong("num_attention_heads", heads, f"a divisor of {width}")
        activation = known.choice("hidden_act", "gelu", tuple(_ACTIVATIONS))
        pooling = known.values.get("pooling")
        named = str((known.values.get("architectures") or [""])[0])
        if named.endswith(_UNKNOWN_TASKS):
            raise known.wrong("architectures", named, "hidden states, classes of sequences or answers")
        output = next((each for end, each in _TASKS.items() if named.endswith(end)), "states")
        labels = known.values.get("id2label") or {}
        return cls(
            kind,
            known.whole("vocab_size"),
            width,
            known.whole("intermediate_size"),
            known.whole("num_hidden_layers"),
            heads,
            known.whole("max_position_embeddings"),
            known.whole("type_vocab_size"),
            known.number("layer_norm_eps", 1e-12),
            _ACTIVATIONS[activation],
            None if kind == "bert" else int(known.values["pad_token_id"] or 0) + 1,
            "embedding" if pooling else output,
            known.choice("pooling", "mean", ("mean", "cls")),
            known.flag("normalised", True),
            2 if output == "spans" else len(labels) or known.whole("num_labels", 2),
        )


class Embeddings(nn.Module):
    """Add what is known of tokens, positions and the one segment."""

    config: BertConfig

    @nn.compact
    def __call__(self, ids: Any, mask: Any) -> Any:
        import jax.numpy as jnp

        c = self.config
        places = jnp.arange(ids.shape[1])[None]
        if c.first is not None:  # padding stands one place before the first token
            places = jnp.cumsum(mask, axis=-1) * mask + (c.first - 1)
        x = nn.Embed(c.vocabulary, c.width, name="word_embeddings")(ids)
        x = x + nn.Embed(c.positions, c.width, name="position_embeddings")(places)
        x = x + nn.Embed(c.segments, c.width, name="token_type_embeddings")(jnp.zeros_like(places))
        return nn.LayerNorm(epsilon=c.epsilon, name="LayerNorm")(x)


class SelfAttention(nn.Module):
    """Attend to all tokens that the mask leaves."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        c = self.config
        shape = (*x.shape[:2], c.heads, c.width // c.heads)
        parts = (nn.Dense(c.width, name=name)(x).reshape(shape) for name in ("query", "key", "value"))
        query, key, value = parts
        return attend(query, key, value, mask[:, None] > 0)


class Added(nn.Module):
    """Multiply by a kernel, add the residual stream, and normalise."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any, residual: Any) -> Any:
        x = nn.Dense(self.config.width, name="dense")(x) + residual
        return nn.LayerNorm(epsilon=self.config.epsilon, name="LayerNorm")(x)


class Attention(nn.Module):
    """Attend, and add the context to the residual stream."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        return Added(self.config, name="output")(SelfAttention(self.config, name="self")(x, mask), x)


class Intermediate(nn.Module):
    """Compute the wide half of the feed-forward layer."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.gelu(nn.Dense(self.config.inner, name="dense")(x), approximate=self.config.by_tanh)


class Layer(nn.Module):
    """Compute one layer."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        x = Attention(self.config, name="attention")(x, mask)
        return Added(self.config, name="output")(Intermediate(self.config, name="intermediate")(x), x)


class Layers(nn.Module):
    """Compute all layers."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        for n in range(self.config.layers):
            x = Layer(self.config, name=str(n))(x, mask)
        return x


class Encoder(nn.Module):
    """Hold the layers under the name that checkpoints give them."""

    config: BertConfig

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        return Layers(self.config, name="layer")(x, mask)


class Pooler(nn.Module):
    """Read the first token."""

    config: BertConfig

    @nn.compact
    def __call__(self, states: Any) -> Any:
        return nn.tanh(nn.Dense(self.config.width, name="dense")(states[:, 0]))


class RobertaHead(nn.Module):
    """Compute the classes from the first token, as RoBERTa does."""

    config: BertConfig

    @nn.compact
    def __call__(self, states: Any) -> Any:
        x = nn.tanh(nn.Dense(self.config.width, name="dense")(states[:, 0]))
        return nn.Dense(self.config.labels, name="out_proj")(x)


class Bert(nn.Module):
    """Compute what the configuration's output says, from ids and mask [batch, length]."""

    config: BertConfig

    @nn.compact
    def __call__(self, ids: Any, mask: Any) -> Any:
        import jax.numpy as jnp

        c = self.config
        states = Embeddings(c, name="embeddings")(ids, mask)
        states = Encoder(c, name="encoder")(states, mask)
        if c.output == "classes":
            if c.kind != "bert":
                return RobertaHead(c, name="classifier")(states)
            return nn.Dense(c.labels, name="classifier")(Pooler(c, name="pooler")(states))
        if c.output == "spans":
            start, end = jnp.split(nn.Dense(2, name="qa_outputs")(states), 2, axis=-1)
            return start[..., 0], end[..., 0]
        return sentence(c, states, mask) if c.output == "embedding" else states


def sentence(config: BertConfig, states: Any, mask: Any) -> Any:
    """Return the embedding [batch, width] of hidden states [batch, length, width]."""
    import jax
    import jax.numpy as jnp

    found = states[:, 0]
    if config.pooling == "mean":
        words = mask[..., None].astype(states.dtype)
        found = jnp.sum(states * words, axis=-2) / jnp.sum(words, axis=-2)
    if not config.normalised:
        return found
    # One rsqrt of a secret value replaces a root and a division.
    return found * jax.lax.rsqrt(jnp.sum(found * found, axis=-1, keepdims=True))


def model(settings: Settings) -> Model:
    """Return the model that the settings describe."""
    import jax.numpy as jnp

    config = BertConfig.of(settings)
    module = Bert(config)

    def encode(params: Any, ids: Any, mask: Any) -> Any:
        return module.apply({"params": params}, ids, mask)

    def initial(key: Any) -> Any:
        ones = jnp.ones((1, 1), jnp.int32)
        return module.init(key, ones, ones)["params"]

    return Model(config, encode, config.output, initial)
