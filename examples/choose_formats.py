"""Choose fixed-point formats: calibrate, write a rule, compare with plaintext, verify in checked mode.

Run it with `python examples/choose_formats.py`. It takes a few seconds.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import ditto_spu as ditto

WIDTH = 64


def block(params: dict[str, Any], x: Any) -> Any:
    """Return a feed-forward block's result [rows, width] for x [rows, width]."""
    # Rules find an operation by its path. Flax names paths by modules, and plain JAX by named scopes.
    with jax.named_scope("up"):
        hidden = jax.nn.gelu(x @ params["up"])
    with jax.named_scope("down"):
        return x + hidden @ params["down"]


def main() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    params = {
        "up": (draw.standard_normal((WIDTH, 4 * WIDTH)) / WIDTH**0.5).astype(np.float32),
        "down": (draw.standard_normal((4 * WIDTH, WIDTH)) / (4 * WIDTH) ** 0.5).astype(np.float32),
    }
    inputs = [draw.standard_normal((32, WIDTH)).astype(np.float32) for _ in range(20)]
    x = inputs[0]

    # 1. Calibrate: run the plaintext program on typical inputs, and record what values it holds.
    calibration = ditto.calibrate(block, [(params, each) for each in inputs])
    seen = calibration.at("up", "matmul")
    assert seen is not None
    print(f"the product at 'up' was between {seen.least:.2f} and {seen.most:.2f}")

    # 2. Write a configuration. The product at 'up' gets 16 bits, 10 of them fraction bits. Its declared range
    #    is a promise: the compiler refuses a range that the format cannot hold, and uses it to save bytes.
    mine = {
        "name": "mine",
        "default": "fxp32.12",
        "rule": [{"path": "up", "op": "matmul", "format": "fxp16.10", "range": 12}],
    }

    # 3. Compile with the calibration. It supplies the ranges that no rule declares, and it refuses formats
    #    that cannot hold what was seen. This table shows how many bits of room are left.
    secure = ditto.secure(block, config=mine, calibration=calibration)
    print(secure.lower(params, x).ranges(calibration))

    # 4. Compare with plaintext. The emulation has the roundings of the formats, and no parties. `puma=True`,
    #    the default, would add the baseline on stock SPU, which takes longer.
    comparison = secure.compare(params, x, configs=["uniform64", mine], puma=False)
    for row in comparison.rows:
        sent = "" if row.bytes_sent_per_party is None else f", {max(row.bytes_sent_per_party) / 1e3:.0f} kB"
        error = "" if row.max_abs_error is None else f"largest error {row.max_abs_error:.5f}"
        print(f"{row.config:20s} {error}{sent}")

    # 5. Verify the declared ranges while three parties run. Checked mode joins the shares of every value, so
    #    it exists in the simulator alone.
    checked = ditto.secure(block, config=mine, calibration=calibration, checked=True)
    outputs = checked(params, x)
    expected = np.asarray(block(params, x))
    print(f"in checked mode every value kept its range; error {np.abs(outputs - expected).max():.5f}")

    # An input that is four times as large breaks the promise. The simulator holds the caller's own values
    # against every range, in checked mode and out of it, so it is an error and not a wrong result.
    try:
        checked(params, 4 * x)
        refused = ""
    except ditto.DittoError as error:
        refused = str(error)
    print(f"four times as large: {refused}")
    return {
        "outputs": outputs,
        "expected": expected,
        "seen": seen,
        "comparison": comparison,
        "refused": refused,
    }


if __name__ == "__main__":
    main()
