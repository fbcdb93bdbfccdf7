"""How large values may be in a step of SPU. Beyond these SPU gives wrong results without an error.

Measured on SPU 0.9.5 with ABY3, FM64 and 18 fraction bits, by octave, on operands of either sign.
"""

from __future__ import annotations

RESULT = 2.0**26  # a product has 36 fraction bits before it is truncated

# The largest first operand for which the result is right. Other operations have no limit of their own.
OPERAND = {
    "stablehlo.sqrt": 2.0**17,
    "stablehlo.log": 2.0**18,
    "stablehlo.log_plus_one": 2.0**18,
    "stablehlo.cbrt": 2.0**18,
    "stablehlo.power": 2.0**18,
    "stablehlo.sine": 2.0**14,
    "stablehlo.cosine": 2.0**14,
    "stablehlo.remainder": 2.0**13,
}
