"""Functions with a window are right up to the magnitude that the compiler, and so the guard, lets pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp
from ditto_spu.ops import OPS
from tests.kernels.conftest import mpc  # noqa: F401

PAIRS = [
    *(("fxp16.8", out) for out in ("fxp32.4", "fxp16.8", "fxp16.7")),
    *(("fxp32.20", out) for out in ("fxp32.20", "fxp32.12", "fxp64.20", "fxp16.4")),
    ("fxp64.30", "fxp64.18"),
]
WINDOWED = [name for name, op in OPS.items() if op.window is not None]


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_results_are_right_up_to_the_room(name: str, source: str, target: str, mpc: Any) -> None:  # noqa: F811
    op, fxp, out = OPS[name], Fxp.parse(source), Fxp.parse(target)
    kernel = KERNELS[next(iter(op.kernels.values()))]
    for place, (approx, form) in enumerate(op.approximations.items()):
        if form.needs_training:
            continue
        call: Any = SimpleNamespace(decision=SimpleNamespace(approx=approx, out=out))
        attributes = {} if approx == next(iter(op.approximations)) else {"approx": approx}
        try:
            most = min(op.room(call, fxp), out.limit - 1, 2.0**31)
            error = kernel.error(Spec((1,), fxp), out=out, **attributes)
        except ValueError:  # the kernel refuses these formats
            continue
        end = (np.ceil(most / fxp.ulp) - 1) * fxp.ulp
        x = np.repeat([-end, end, -0.9 * end, 0.9 * end], 100)
        x = np.trunc(x / fxp.ulp) * fxp.ulp
        outcome = mpc(kernel.run, (x, fxp), out=out, dealer=place % 3, **attributes)
        assert np.max(np.abs(outcome.value - kernel.reference(x))) <= error, approx
