"""What a user gives in place of options, batches, material and functions is refused with the remedy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import InputError

X = np.linspace(-1, 1, 6, dtype=np.float32)


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("calibration", {"a": 1}, "a result of `calibrate`"),
        ("seed", "a", "a whole number"),
        ("public", 3, "a name or several names"),
        ("public", (3,), "a name or several names"),
        ("static_argnums", "a", "a number or several numbers"),
        ("static_argnames", 1, "a name or several names"),
        ("check", "no", "True or False"),
        ("masked", 1, "True or False"),
        ("guard", 3, "True, False or None"),
        ("p_error", "a", "a probability"),
        ("network", 5, '"loopback", "lan"'),
    ],
)
def test_options_of_the_wrong_type(option: str, value: Any, remedy: str) -> None:
    with pytest.raises(InputError, match=f"{option} is .*: give {remedy}"):
        ditto.secure(lambda x: x, **{option: value})


@pytest.mark.parametrize("batches", [None, 3, "x", {"x": X}])
def test_batches_that_are_none(batches: Any) -> None:
    with pytest.raises(InputError, match=r"batches are a list of calls.*\[\(x,\), \(y,\)\]"):
        ditto.calibrate(lambda x: x, batches)


def test_material_of_something_else() -> None:
    with pytest.raises(InputError, match="material is int: give what `precompute` has returned"):
        ditto.secure(lambda x: x).run(X, material=3)  # type: ignore[arg-type]


def test_a_compiled_function_inside_of_a_transformation() -> None:
    secure = ditto.secure(lambda x: x * 2)
    secure(X)
    calls = (jax.jit(secure), jax.grad(lambda x: secure(x).sum()), ditto.secure(lambda x: secure(x) + 1))
    for call in (*calls, jax.vmap(secure)):
        with pytest.raises(InputError, match="call the secure function outside"):
            call(X)


def noisy(x: Any, key: Any) -> Any:
    return x + jax.random.normal(key, x.shape)


def test_a_random_key_is_public_or_refused() -> None:
    key = jax.random.key(3)
    secure = ditto.secure(noisy, public=("key",))
    for each in (key, jax.random.fold_in(key, 1), jax.random.PRNGKey(3)):
        assert secure(X, each) == pytest.approx(np.asarray(noisy(X, each)), abs=1e-3)
    with pytest.raises(InputError, match="argument 'key' is a random key: name it in `public`"):
        ditto.secure(noisy)(X, key)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(jnp.uint8, 200), (jnp.int8, 200), (jnp.int16, 4e4), (jnp.uint32, 1e5)]
)
def test_floats_saturate_at_the_ends_of_narrow_integers(dtype: Any, scale: float) -> None:
    def fn(x: Any) -> Any:
        return (x * scale + 0.25).astype(dtype)

    wanted = np.asarray(fn(jnp.asarray(X))).astype(np.int64)
    assert np.abs(np.asarray(ditto.secure(fn)(X)).astype(np.int64) - wanted).max() <= 1
    assert wanted.min() in (jnp.iinfo(dtype).min, 0)


def test_a_float_beyond_int32_is_refused() -> None:
    with pytest.raises(ditto.errors.RangeError, match=r"test_wrong_calls\.py:\d+.*clip it before"):
        ditto.secure(lambda x: (x * 1e10).astype(jnp.int32))(X)
