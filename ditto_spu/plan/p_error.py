"""The probability that a truncation or comparison of a plan errs beyond its bound."""

from __future__ import annotations

from ditto_spu.errors import ConfigError
from ditto_spu.plan.plan import Plan, SpuStep


def total_p_error(plan: Plan) -> float | None:
    """Over the whole plan, for values within the ranges that it relies on; None if nobody knows.

    Our kernels never fail: a truncation corrects the wrap of its masked opening from dealt bits, comparisons
    and look-ups are exact. SPU truncates by dropping bits of shares: for |x| < 2^l in a ring of k bits one
    truncation is off by 2^(k-f) with probability 2^(l+1-k) (SecureML, IEEE S&P 2017, theorem 1), but how many
    an SPU step performs, and on what, its executable does not say.
    """
    return None if _unknown(plan) else 0.0


def require_p_error(plan: Plan, limit: float) -> None:
    """ConfigError if the plan's probability is above the limit, or unknown."""
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
    """Steps without a proven bound: number and path."""
    return [(number, step.path) for number, step in enumerate(plan.steps) if isinstance(step, SpuStep)]
