"""The probability that a truncation or comparison of a plan errs beyond its bound."""

from __future__ import annotations

from ditto_spu.errors import ConfigError
from ditto_spu.plan.plan import Plan, SpuStep


def total_p_error(plan: Plan) -> float | None:
    """Return the probability for the whole plan, for values within the ranges that it relies on.

    None if it is unknown. Kernels never fail: a truncation corrects the wrap of its masked opening with dealt
    bits, and comparisons and look-ups are exact. SPU truncates by dropping bits of shares. For |x| < 2^l in a
    ring of k bits, one such truncation is off by 2^(k-f) with probability 2^(l+1-k) (SecureML, IEEE S&P 2017,
    theorem 1). But SPU's executable does not say how many truncations a step performs, and on which values.
    """
    return None if _unknown(plan) else 0.0


def require_p_error(plan: Plan, limit: float) -> None:
    """Raise ConfigError if the plan's probability is above the limit, or unknown.

    limit: at least 0 and below 1.
    """
    if not 0 <= limit < 1:
        raise ConfigError(f"p_error {limit:g} is no probability below 1")
    if steps := _unknown(plan):
        number, path = steps[0]
        raise ConfigError(
            f"step {number} at '{path}' runs on SPU, whose truncations fail with a probability that is not "
            f"known: it cannot be held to p_error = {limit:g}; replace the op by one that has a kernel, or "
            "leave `p_error` out"
        )


def _unknown(plan: Plan) -> list[tuple[int, str]]:
    """Return number and path of the steps without a proven bound."""
    return [(number, step.path) for number, step in enumerate(plan.steps) if isinstance(step, SpuStep)]
