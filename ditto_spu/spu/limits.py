"""How large values may be in a step of SPU. Beyond these SPU gives wrong results without an error.

Measured on SPU 0.9.5 with ABY3, FM64 and 18 fraction bits.
"""

from __future__ import annotations

RESULT = 2.0**26  # a product has 36 fraction bits before it is truncated
