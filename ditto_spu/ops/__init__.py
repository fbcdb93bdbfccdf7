"""The table of patterns that become one `ditto.*` composite each; how each is recognised is beside it."""

from ditto_spu.ops.activation import gelu, match_gelu, match_silu, silu
from ditto_spu.ops.argmax import argmax, match_argmax
from ditto_spu.ops.embedding import embedding, match_embedding
from ditto_spu.ops.match import Match, Pattern
from ditto_spu.ops.normalisation import layer_norm, match_layer_norm, match_rms_norm, rms_norm
from ditto_spu.ops.softmax import match_softmax, softmax

__all__ = ["TABLE", "Match", "Pattern"]

# An earlier entry is tried first at the same operation.
TABLE: tuple[Pattern, ...] = (
    Pattern("ditto.softmax", ("stablehlo.divide",), match_softmax, softmax),
    Pattern(
        "ditto.layer_norm",
        ("stablehlo.add", "stablehlo.multiply", "stablehlo.divide"),
        match_layer_norm,
        layer_norm,
    ),
    Pattern("ditto.rms_norm", ("stablehlo.multiply", "stablehlo.divide"), match_rms_norm, rms_norm),
    Pattern("ditto.silu", ("stablehlo.multiply",), match_silu, silu),
    Pattern("ditto.gelu", ("stablehlo.multiply", "stablehlo.divide"), match_gelu, gelu),
    Pattern(
        "ditto.embedding",
        ("stablehlo.select", "stablehlo.gather", "stablehlo.dynamic_slice"),
        match_embedding,
        embedding,
    ),
    Pattern("ditto.argmax", ("stablehlo.convert",), match_argmax, argmax),
)
