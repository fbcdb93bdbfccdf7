"""docs/coverage.md: complete, as the compiler has it, and every example right."""

from __future__ import annotations

import jax
import jaxlib.mlir.dialects._stablehlo_ops_gen as dialect  # noqa: TID251  the dialect itself is what is counted
import numpy as np
import pytest

from bench.coverage import DOCUMENT, REFUSED, SUPPORTED, UNWRITTEN, error, operations, steps
from ditto_spu import secure
from ditto_spu.ir.supported import SUPPORTED as ON_SPU

NEVER = [name for names in UNWRITTEN.values() for name in names.split()]
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in DOCUMENT.read_text().splitlines()
    if line.startswith("| `")
    for cells in [line.strip("| ").replace("\\|", "|").split(" | ")]
}
ALL = [
    each.OPERATION_NAME.removeprefix("stablehlo.")
    for each in vars(dialect).values()
    if isinstance(each, type) and hasattr(each, "OPERATION_NAME")
]


def test_the_table_names_every_operation_once() -> None:
    assert sorted([*SUPPORTED, *REFUSED, *NEVER]) == sorted(ALL)
    assert set(ALL) <= set(ROWS)


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_operation_that_is_supported(name: str) -> None:
    cell = []
    for example in SUPPORTED[name]:
        assert name in operations(example)
        cell.append(steps(example))
        outputs = secure(example.fn, public=example.public, seed=1)(*example.args)
        expected = jax.jit(example.fn)(*example.args)
        for mine, plain in zip(*map(jax.tree_util.tree_leaves, (outputs, expected)), strict=True):
            assert mine.shape == plain.shape and mine.dtype == plain.dtype
            if np.issubdtype(plain.dtype, np.floating):
                np.testing.assert_allclose(mine, plain, atol=0.02)
            else:
                np.testing.assert_array_equal(mine, plain)
    assert ROWS[name] == ["yes", "; ".join(cell)]


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_that_is_refused(name: str) -> None:
    assert name in operations(REFUSED[name])
    said = error(REFUSED[name])
    assert ROWS[name] == ["refused", said] and len(said) > 20


def test_what_is_never_met_has_no_promise() -> None:
    spoken = ("dot", "if", "logistic", "composite", "return")  # SPU or a pattern knows them all the same
    assert not [name for name in NEVER if f"stablehlo.{name}" in ON_SPU and name not in spoken]
    assert all(ROWS[name][0] == "never met" for name in NEVER)
