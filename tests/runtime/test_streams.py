"""No stream masks two values, in any way of running: with held weights, kept outputs and material too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.protocol.party import Party
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.values.absent import is_absent

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(6, 16)).astype(np.float32), RNG.normal(size=(16, 16)).astype(np.float32)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    """Normalise rows, multiply, and use exponentials, roots, quotients, a maximum and a softmax."""
    centred = x - x.mean(-1, keepdims=True)
    y = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    y = jax.nn.softmax(jax.nn.gelu(y @ w), axis=-1) @ w
    return jnp.exp(-jnp.abs(y)) / (1 + jnp.sqrt(jnp.abs(y))) + jnp.maximum(y, 0.5)


@pytest.mark.parametrize(
    ("config", "masked"),
    [
        ("ditto", False),
        ("auto", True),
        pytest.param("ditto", True, marks=pytest.mark.slow),
        pytest.param("auto", False, marks=pytest.mark.slow),
    ],
)
def test_every_stream_is_drawn_once(config: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[Any, list[Randomness]] = {}
    sent: list[tuple[int, bytes]] = []
    draw, send = Randomness.draw, Party.send

    def noted(self: Randomness, component: int, label: str, *rest: Any) -> Any:
        rank, key = self._keys.rank, self._keys.mine + self._keys.next
        drawn.setdefault((rank, key, self._prefix, component, label), []).append(self)
        return draw(self, component, label, *rest)

    def noted_message(self: Party, to: int, name: str, array: Any, offline: bool = False) -> Any:
        dropped = self.phase == "ahead" and not offline  # It is sent once the request runs.
        if not (dropped or is_absent(array)) and array.nbytes >= 16:
            sent.append((to, array.tobytes()))
        return send(self, to, name, array, offline)

    monkeypatch.setattr(Randomness, "draw", noted)
    monkeypatch.setattr(Party, "send", noted_message)
    function = ditto.secure(layer, config=config, masked=masked).hold(w=W)
    expected = np.asarray(layer(X, W))
    for _ in range(2):
        np.testing.assert_allclose(function.run(X).outputs, expected, atol=0.1)
    assert all(len(owners) == 1 for owners in drawn.values())
    once = len(drawn)
    for _ in range(2):
        material = function.precompute(X)
        np.testing.assert_allclose(function.run(X, material=material).outputs, expected, atol=0.1)
    # A dealer may draw again online what it drew to deal: the same masks, of the same request.
    assert all(len(owners) == len(set(owners)) <= 2 for owners in drawn.values())
    assert len(drawn) >= 2 * once > 0
    # All requests have the same inputs. So a mask that served twice would show as a message that came twice.
    assert len(sent) == len(set(sent)) > 0
