"""Secure a plain JAX function: neither the weights nor the records are seen by any party.

Run it with `python examples/plain_function.py`. It takes a few seconds.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ditto_spu as ditto


def risk(weights: dict[str, Any], records: Any, scale: Any) -> Any:
    """Return the risk of each patient, between 0 and 1.

    records is [patients, 3], scale is [3], the result is [patients].
    """
    hidden = jnp.tanh((records / scale) @ weights["hidden"])
    return jax.nn.sigmoid(hidden @ weights["out"] + weights["bias"])


def main() -> dict[str, Any]:
    # A laboratory owns the weights, and a clinic owns the records. Both are secret.
    weights = {
        "hidden": np.array([[0.9, -0.4], [0.5, 0.8], [-0.3, 0.6]], np.float32),
        "out": np.array([1.6, -1.1], np.float32),
        "bias": np.float32(-0.7),
    }
    records = np.array([[34, 121, 22], [61, 155, 31], [48, 98, 27]], np.float32)  # age, pressure, BMI
    scale = np.array([50, 120, 25], np.float32)

    # Every argument is secret unless `public` names it. The three parties learn the scale, and the shapes.
    # A constant that the function captures would be public too, so weights are passed as an argument.
    # `@ditto.secure(public=("scale",))` above the function does the same.
    secure_risk = ditto.secure(risk, public=("scale",))

    # The plan tells what each input is before anything runs: `fxp32.11` is in shares, with 11 fraction bits.
    plan = secure_risk.lower(weights, records, scale).as_text("plan")
    print(plan, end="\n\n")

    # `secure_risk(...)` returns the outputs alone. `run` returns the report as well.
    result = secure_risk.run(weights, records, scale)
    expected = np.asarray(risk(weights, records, scale))
    for patient, (secure, plain) in enumerate(zip(result.outputs, expected, strict=True)):
        print(f"patient {patient}: risk {secure:.4f} from three parties, {plain:.4f} in plaintext")

    # The report has one line per step that costs something. Its numbers are also attributes.
    print(result.report)
    report = result.report
    print(f"{report.rounds} rounds; each party sent {report.bytes_sent_per_party} bytes")
    return {"outputs": result.outputs, "expected": expected, "plan": plan, "report": report}


if __name__ == "__main__":
    main()
