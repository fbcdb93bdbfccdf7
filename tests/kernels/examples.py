"""Examples have at least one call of every kernel, for the tests that hold for all kernels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode

F = Fxp.parse
DOT = (((1,), (0,)), ((), ()))


@dataclass(frozen=True)
class Example:
    """A call with operands (low, high, shape, format), or (low, high, shape) for a public one.

    Their values are drawn uniformly.
    """

    kernel: str
    operands: tuple[tuple[Any, ...], ...]
    out: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        notes = "-".join(str(value) for value in self.attributes.values() if isinstance(value, str))
        return f"{self.kernel}-{self.operands[0][-1]}-{self.out}{'-' + notes if notes else ''}"


EXAMPLES = [
    Example("cast", ((-7, 7, (9, 5), "fxp32.12"),), "fxp32.8"),
    Example("cast", ((-3, 3, (9, 5), "fxp16.12"),), "fxp16.2"),
    Example("cast", ((-7, 7, (9, 5), "fxp16.9"),), "fxp64.18"),
    Example("multiply", ((-3, 3, (9, 5), "fxp32.12"), (-3, 3, (5,), "fxp32.12")), "fxp32.12"),
    Example("matmul", ((-1, 1, (9, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12")), "fxp16.8", {"dims": DOT}),
    Example("matmul", ((-1, 1, (9, 6), "fxp64.18"), (-1, 1, (6, 5), "fxp64.18")), "fxp64.18", {"dims": DOT}),
    Example(
        "matmul_public",
        ((-1, 1, (9, 6), "fxp32.12"), (-1, 1, (6, 5))),
        "fxp32.12",
        {"dims": DOT, "weight_fraction_bits": 12},
    ),
    Example(
        "matmul_adapted",
        (
            (-1, 1, (9, 6), "fxp32.12"),
            (-1, 1, (6, 5)),
            (-1, 1, (9, 2), "fxp32.11"),
            (-1, 1, (2, 5), "fxp32.12"),
        ),
        "fxp32.12",
        {"dims": DOT, "adapter_dims": DOT, "weight_fraction_bits": 12},
    ),
    Example(
        "matmul",
        ((-1, 1, (9, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12")),
        "fxp32.11",
        {"dims": DOT, "range": 7.0},
    ),
    Example("multiply", ((-3, 3, (9, 5), "fxp32.10"), (-3, 3, (5,), "fxp32.10")), "fxp32.10", {"range": 9.5}),
    Example("multiply", ((-3, 3, (256, 256), "fxp64.18"), (-3, 3, (256,), "fxp64.18")), "fxp64.18"),
    Example(
        "product_guard",
        ((-0.1, 0.1, (9, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12"), (-0.1, 0.1, (9, 5), "fxp32.12")),
        "fxp16.9",
        {"products": ((("dims", DOT), ("summed", "left")),)},
    ),
    Example(
        "product_guard",
        ((-0.1, 0.1, (9, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12"), (-0.1, 0.1, (9, 5), "fxp16.8")),
        "fxp16.9",
        {"products": ((("dims", DOT), ("range", 12.0)),)},
    ),
    Example(
        "product_guard",
        (
            (-1, 1, (9, 6), "fxp64.18"),
            (-1, 1, (6, 5)),
            (-1, 1, (9, 5), "fxp64.18"),
            *((-0.1, 0.1, (9, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12"), (-0.1, 0.1, (9, 5), "fxp16.8")),
            *((-0.1, 0.1, (3, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12"), (-0.1, 0.1, (3, 5), "fxp16.8")),
            *((-0.1, 0.1, (3, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12"), (-0.1, 0.1, (3, 5), "fxp32.12")),
        ),
        "fxp16.9",
        {
            "products": (
                (("dims", DOT), ("weight_fraction_bits", 18)),
                *((("dims", DOT), ("range", 12.0)),) * 2,
                (("dims", DOT), ("summed", "left")),
            )
        },
    ),
    Example(
        "element_guard",
        (
            *((-0.1, 0.1, (9, 6), "fxp32.12"), (-1, 1, (6,), "fxp32.12"), (-0.1, 0.1, (9, 6), "fxp32.12")),
            *((-1, 1, (9, 6), "fxp64.18"), (-1, 1, (9, 6)), (-1, 1, (9, 6), "fxp64.18")),
            *((-0.1, 0.1, (4,), "fxp32.12"), (-1, 1, (4,)), (-0.1, 0.1, (4,), "fxp16.8")),
            *((-1, 1, (5, 2), "fxp64.18"), (-1, 1, (5, 2), "fxp32.12")),
        ),
        "fxp16.9",
        {
            "items": (
                (("operands", 3), ("range", 7.0)),
                (("operands", 3), ("weight_fraction_bits", 18)),
                (("operands", 3), ("weight_fraction_bits", 10)),
                (("operands", 2), ("within", 2.0**19)),
            )
        },
    ),
    Example(
        "spread_guard",
        ((-4, 4, (9, 6), "fxp32.11"), (-4, 4, (2, 5, 7), "fxp64.18")),
        "fxp16.9",
        {"limits": ((256.0, True), (256.0, False))},
    ),
    Example(
        "range_guard",
        (
            (-40, 40, (9, 6), "fxp16.8"),
            (-4, 4, (7,), "fxp32.12"),
            (-4, 4, (40, 3), "fxp64.18"),
            (0.5, 4, (33,), "fxp32.12"),
        ),
        "fxp16.9",
        {"ranges": ((-64.0, 64.0), (-(2.0**18), 2.0**18), (-(2.0**44), 2.0**44), (0.25, 8.0))},
    ),
    Example("guard_bit", ((-0.4, 0.4, (7, 3), "fxp16.9"), (-0.4, 0.4, (2, 40), "fxp16.9")), "fxp64.0"),
    Example(
        "guard_bit",
        (
            *((-0.1, 0.1, (3, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12"), (-0.1, 0.1, (3, 5), "fxp16.8")),
            (-0.1, 0.1, (5,), "fxp16.8"),
            (-40, 40, (9, 6), "fxp16.8"),
            (-0.4, 0.4, (7,), "fxp16.9"),
        ),
        "fxp64.0",
        {
            "products": ((("dims", DOT), ("range", 12.0), ("shifted", True)),),
            "ranges": ((-64.0, 64.0),),
        },
    ),
    Example("maximum", ((-3, 3, (9, 5), "fxp16.8"), (-3, 3, (9, 5), "fxp16.8")), "fxp16.8"),
    Example("compare", ((-3, 3, (9, 5), "fxp32.12"), (-3, 3, (9, 5), "fxp32.12")), "fxp64.0"),
    Example("compare", ((-2, 2, (9, 5), "fxp16.1"), ("integers", 2, (5,))), "fxp64.0", {"direction": "GE"}),
    Example(
        "compare",
        (("integers", 2, (90,), "fxp64.0"), ("integers", 2, (90,), "fxp64.0")),
        "fxp64.0",
        {"direction": "EQ", "ring": 8},
    ),
    Example(
        "select",
        (("bits", 1, (9, 5), "fxp64.0"), (-3, 3, (9, 5), "fxp32.12"), (-3, 3, (5,), "fxp32.12")),
        "fxp32.12",
    ),
    Example("select", (("bits", 1, (9, 5), "fxp64.0"), (-3, 3, (9, 5), "fxp16.8"), (-3, 3, ())), "fxp16.8"),
    Example("select", (("bits", 1, (9, 5), "fxp64.0"), (-3, 3, (9, 5)), (-3, 3, ())), "fxp32.12"),
    Example(
        "logic",
        (("bits", 1, (9, 5), "fxp64.0"), ("bits", 1, (9, 5), "fxp64.0")),
        "fxp64.0",
        {"operation": "xor"},
    ),
    Example("logic", (("bits", 1, (9, 5), "fxp64.0"),), "fxp64.0", {"operation": "not"}),
    Example("logic", (("bits", 1, (9, 5)), ("bits", 1, (9, 5), "fxp64.0")), "fxp64.0", {"operation": "or"}),
    Example("minimum", ((-3, 3, (9, 5), "fxp32.12"), (-3, 3, (5,), "fxp32.12")), "fxp32.12"),
    Example("reduce_min", ((-3, 3, (9, 5), "fxp16.8"),), "fxp16.8", {"dim": 0}),
    Example("abs", ((-3, 3, (9, 5), "fxp32.12"),), "fxp32.12"),
    Example("abs", ((-3, 3, (9, 5), "fxp16.8"),), "fxp16.6"),
    Example("sign", ((-3, 3, (9, 5), "fxp16.1"),), "fxp32.12"),
    Example("clamp", ((-1, -1, ()), (-3, 3, (9, 5), "fxp32.12"), (1, 2, (9, 5))), "fxp32.12"),
    Example(
        "clamp",
        ((-1, 1, (9, 5), "fxp16.8"), (-3, 3, (9, 5), "fxp16.8"), (-1, 2, (9, 5), "fxp16.8")),
        "fxp16.8",
    ),
    Example("round", ((-3, 3, (9, 5), "fxp32.12"),), "fxp32.0"),
    Example("round", ((-3, 3, (9, 5), "fxp16.1"),), "fxp16.8", {"mode": "even"}),
    Example("round", ((-3, 3, (90, 1), "fxp32.2"),), "fxp64.0", {"mode": "zero"}),
    Example("reduce_max", ((-3, 3, (9, 5), "fxp16.8"),), "fxp16.8", {"dim": 1}),
    Example("argmax", ((-3, 3, (9, 21), "fxp16.8"),), "fxp32.0", {"dim": 1}),
    Example("argmax", ((-3, 3, (90, 2), "fxp32.12"),), "fxp32.12", {"dim": 0}),
    Example("exponential", ((-6, 0, (9, 5), "fxp32.12"),), "fxp32.14", {"hi": 0.0}),
    Example("exponential", ((-9, 9, (45,), "fxp32.11"),), "fxp32.11", {"approx": "whole", "hi": 9.0}),
    Example("exponential", ((-9, 9, (45,), "fxp64.18"),), "fxp64.18", {"approx": "whole", "hi": 9.0}),
    Example(
        "exponential", ((-9, 9, (45,), "fxp64.18"),), "fxp64.18", {"approx": "whole", "hi": 9.0, "minus": 1}
    ),
    Example("exponential", ((-6, 0, (45,), "fxp32.12"),), "fxp32.14", {"hi": 0.0, "minus": 1}),
    Example("reciprocal", ((1, 100, (45,), "fxp32.12"),), "fxp32.18"),
    Example("rsqrt", ((0.5, 100, (45,), "fxp32.14"),), "fxp32.14"),
    Example(
        "divide",
        ((-9, 9, (45,), "fxp32.12"), (1, 90, (45,), "fxp32.12")),
        "fxp32.12",
        {"lo": 0.5, "hi": 100.0},
    ),
    Example(
        "divide",
        ((-9, 9, (9, 5), "fxp32.12"), (-90, -0.1, (5,), "fxp32.12")),
        "fxp32.12",
        {"approx": "whole", "range": 90.0},
    ),
    Example(
        "divide", ((-9, 9, (45,)), (0.1, 900, (45,), "fxp64.22")), "fxp64.18", {"approx": "whole", "lo": 0.1}
    ),
    Example("rsqrt", ((0.01, 9000, (45,), "fxp32.14"),), "fxp32.14", {"approx": "whole"}),
    Example("sqrt", ((0, 9000, (45,), "fxp32.14"),), "fxp32.14"),
    Example("sqrt", ((0, 9000, (45,), "fxp64.28"),), "fxp64.18"),
    Example("log", ((0.01, 9000, (45,), "fxp32.14"),), "fxp32.14"),
    Example("log", ((0.01, 9000, (45,), "fxp64.28"),), "fxp64.18"),
    Example("log", ((-0.9, 9, (45,), "fxp64.22"),), "fxp64.18", {"plus": 1}),
    Example("sine", ((-900, 900, (9, 5), "fxp32.12"),), "fxp32.12"),
    Example("sine", ((-90, 90, (9, 5), "fxp64.18"),), "fxp64.18", {"wave": "cosine"}),
    Example("odd_series", ((-1, 1, (9, 5), "fxp64.18"),), "fxp64.18"),
    Example("odd_series", ((-0.5, 0.5, (9, 5), "fxp32.12"),), "fxp32.12", {"function": "asin"}),
    Example("odd_series", ((-4, 4, (9, 5), "fxp64.18"),), "fxp32.12", {"function": "erf"}),
    Example("softmax", ((-6, 6, (4, 7, 32), "fxp16.8"),), "fxp32.14", {"dim": 2}),
    Example("softmax", ((-6, 6, (4, 7, 32), "fxp16.8"), ("bits", 1, (4, 7, 32))), "fxp32.14", {"dim": 1}),
    Example(
        "softmax",
        ((-190, 190, (4, 6, 24), "fxp16.6"), (0, 2, (4, 6, 24))),
        "fxp32.14",
        {"dim": 2, "scale": 0.125, "inner": F("fxp32.14"), "range": 200.0, "approx": "exact"},
    ),
    Example(
        "softmax",
        ((-3, 3, (4, 7, 32), "fxp16.8"),),
        "fxp32.14",
        {"dim": 1, "range": 3.0, "approx": "bounded"},
    ),
    Example(
        "layer_norm",
        ((-3, 3, (5, 96), "fxp32.12"), (0.5, 2, (96,), "fxp32.12"), (-1, 1, (96,), "fxp32.12")),
        "fxp32.12",
        {"dim": 1},
    ),
    Example("rms_norm", ((-3, 3, (5, 96), "fxp32.14"), (0.5, 2, (96,), "fxp32.14")), "fxp32.11", {"dim": 1}),
    Example(
        "layer_norm",
        ((-3, 3, (2, 96), "fxp32.12"), (0.5, 2, (96,), "fxp64.12"), (-1, 1, (96,), "fxp64.12")),
        "fxp32.11",
        {"dim": 1},
    ),
    Example("layer_norm", ((-3, 3, (1, 96), "fxp64.18"), (0.5, 2, (96,)), (-1, 1, (96,))), "fxp64.18"),
    Example("rms_norm", ((-3, 3, (3, 96), "fxp32.14"), (0.5, 2, (96,), "fxp64.10")), "fxp32.11"),
    Example(
        "layer_norm",
        ((-900, 900, (5, 96), "fxp32.12"), (0.5, 2, (96,), "fxp32.12"), (-1, 1, (96,), "fxp32.12")),
        "fxp32.12",
        {"dim": 1, "approx": "whole"},
    ),
    Example(
        "rms_norm",
        ((-0.003, 0.003, (5, 96), "fxp64.20"), (0.5, 2, (96,))),
        "fxp64.18",
        {"dim": 1, "approx": "whole"},
    ),
    Example("tanh", ((-6, 6, (45,), "fxp16.9"),), "fxp32.12"),
    Example("sigmoid", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("silu", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("softplus", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("mish", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("mish", ((-9, 9, (45,), "fxp64.18"),), "fxp64.18", {"approx": "precise"}),
    Example("embedding", ((-3, 3, (37, 6), "fxp32.12"), ("integers", 37, (4, 3), "fxp64.0")), "fxp32.12"),
    Example("gelu", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("gelu", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12", {"approx": "table"}),
    Example("gelu", ((-9, 9, (45,), "fxp32.12"),), "fxp32.12", {"approx": "puma"}),
    Example("tanh", ((-6, 6, (45,), "fxp16.9"),), "fxp32.12", {"approx": "odd"}),
    Example("silu", ((-9, 9, (45,), "fxp16.9"),), "fxp16.9", {"approx": "even"}),
    Example("tanh", ((-9, 9, (45,), "fxp64.18"),), "fxp64.18", {"approx": "precise"}),
    Example("gelu", ((-9, 9, (45,), "fxp64.18"),), "fxp32.12", {"approx": "precise", "approximate": "tanh"}),
    Example("scale", ((-9, 9, (9, 5), "fxp64.18"), (-3, 3, (9, 5))), "fxp64.18"),
    Example("scale", ((-9, 9, (9, 5), "fxp32.12"), (-3, 3, (9, 5))), "fxp32.14", {"range": 30.0}),
]


def draw(operand: tuple[Any, ...], rng: np.random.Generator) -> Any:
    low, high, shape, *fxp = operand
    if low == "bits":
        values = rng.integers(0, 2, shape).astype(np.float64 if fxp else bool)
    elif low == "integers":
        values = rng.integers(0, high, shape).astype(np.float64)
    else:
        values = rng.uniform(low, high, shape)
    return (values, F(fxp[0])) if fxp else values


def specs(example: Example) -> list[Spec]:
    return [Spec(shape, F(fxp[0]) if fxp else None) for _, _, shape, *fxp in example.operands]


def on_grid(operand: Any) -> Any:
    return decode(encode(*operand), operand[1]) if isinstance(operand, tuple) else operand
