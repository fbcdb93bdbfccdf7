"""Do the work that needs no input beforehand: hold the weights, precompute material, use masked shares.

Run it with `python examples/work_offline.py`. It takes a few seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ditto_spu as ditto


def classify(params: dict[str, Any], x: Any) -> Any:
    """Return probabilities [rows, 10] of x [rows, 256]."""
    hidden = jax.nn.gelu(x @ params["up"])
    return jax.nn.softmax(hidden @ params["down"], axis=-1)


def main() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    params = {
        "up": (draw.standard_normal((256, 512)) / 16).astype(np.float32),
        "down": (draw.standard_normal((512, 10)) / 22).astype(np.float32),
    }

    # Held arguments are shared once and serve all requests. Later calls leave them out.
    # With masked shares one party, the dealer, finishes its part before the input exists.
    # The next request has another dealer.
    served = ditto.secure(classify, masked=True).hold(params=params)

    # Without material a call does both phases, one after the other. The first call also compiles.
    x = draw.standard_normal((16, 256)).astype(np.float32)
    whole = served.run(x)

    with tempfile.TemporaryDirectory() as folder:
        # The offline phase: only the shape of a secret argument matters, so it needs no input.
        # The material is kept in a folder here. Without `folder` it stays in memory.
        shape = jax.ShapeDtypeStruct((16, 256), np.float32)
        served.precompute(shape, folder=Path(folder) / "0001")

        # The online phase: the request arrives.
        material = ditto.load_material(Path(folder) / "0001")
        result = served.run(x, material=material)

        # Material holds one-time masks, so it serves one request. It is marked as spent on disk, too.
        try:
            served.run(x, material=material)
            refused = ""
        except ditto.DittoError as error:
            refused = str(error)

    report = result.report
    online, offline = report.online_bytes_sent_per_party, report.offline_bytes_sent_per_party
    print(f"offline phase: {report.offline_seconds:.3f} s, {max(offline) / 1e3:.0f} kB from the dealer")
    print(f"online phase: {report.seconds:.3f} s, {max(online) / 1e3:.0f} kB from each other party")
    print(f"a second request with the same material: {refused}")

    expected = np.asarray(classify(params, x))
    same = (result.outputs.argmax(-1) == expected.argmax(-1)).sum()
    print(f"{same} of {len(x)} rows have the class of the plaintext run")
    print(f"largest error of a probability: {np.abs(result.outputs - expected).max():.5f}")
    return {
        "outputs": result.outputs,
        "whole": whole.outputs,
        "expected": expected,
        "report": report,
        "refused": refused,
    }


if __name__ == "__main__":
    main()
