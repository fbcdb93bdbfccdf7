"""Holds the only table of networks, parses a network's name, and predicts the time of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ditto_spu.errors import InputError, nearest


@dataclass(frozen=True)
class Network:
    """Describes the network between hosts.

    bandwidth: of each host's link, in bits per second. It limits the traffic that a host sends to all others
        together, as if its link were shaped where traffic leaves it. Receiving is not limited.
    round_trip: in seconds. After a byte has left a host, it takes half of this time.
    """

    name: str
    bandwidth: float
    round_trip: float

    @property
    def spec(self) -> str:
        """The text from which `parse_network` makes a network of the same figures."""
        return f"bandwidth={self.bandwidth:.0f}bps,rtt={self.round_trip * 1e6:.3f}us"


LAN = Network("LAN (5 Gbps, 0.4 ms)", 5e9, 0.4e-3)
WAN = Network("WAN (400 Mbps, 40 ms)", 400e6, 40e-3)
LOOPBACK = Network("loopback (20 Gbps, 0.05 ms)", 20e9, 0.05e-3)

NETWORKS: Mapping[str, Network] = {"lan": LAN, "wan": WAN, "loopback": LOOPBACK}

_BANDWIDTHS = {"bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_QUANTITY = re.compile(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]+)")
_EXAMPLE = '"bandwidth=100Mbps,rtt=20ms"'


def parse_network(text: str) -> Network:
    """Parse a network: `lan`, `wan`, `loopback`, or for example "bandwidth=100Mbps,rtt=20ms".

    Bandwidth is in bps, kbps, Mbps or Gbps, and rtt in us, ms or s. Raises InputError with the mistake.
    """
    known = NETWORKS.get(text.strip().lower())
    if known is not None:
        return known
    if "=" not in text:
        raise InputError(f"there is no network '{text}'{nearest(text.lower(), NETWORKS)}; or {_EXAMPLE}")
    found: dict[str, float] = {}
    units = {"bandwidth": _BANDWIDTHS, "rtt": _TIMES}
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in units:
            raise InputError(f"network '{text}': there is no '{name}'{nearest(name, units)}")
        if name in found:
            raise InputError(f"network '{text}' gives {name} twice")
        found[name] = _quantity(text, name, value, units[name])
    for name in units:
        if name not in found:
            raise InputError(f"network '{text}' lacks {name}: for example {_EXAMPLE}")
    made = Network(_name(found["bandwidth"], found["rtt"]), found["bandwidth"], found["rtt"])
    return next((each for each in NETWORKS.values() if each.spec == made.spec), made)


def predicted_seconds(network: Network, compute: float, sent: Sequence[int], rounds: int) -> float:
    """Predict the seconds of a run by its totals: compute + bytes / bandwidth + rounds * round trip / 2.

    This ranks alternatives. `run_time.predicted_run` knows stages, and what hosts add and hide.

    compute: seconds of local computation.
    sent: bytes that each party sends. The formula uses those of the busiest party.
    """
    return compute + 8 * max(sent) / network.bandwidth + rounds * network.round_trip / 2


def _quantity(text: str, name: str, value: str, units: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(value)
    unit = None if match is None else {each.lower(): units[each] for each in units}.get(match[2].lower())
    if match is None or unit is None:
        raise InputError(
            f"network '{text}': {name} is a number with one of {', '.join(units)}, not '{value}'"
        )
    number = float(match[1]) * unit
    if not math.isfinite(number) or (number == 0 and name == "bandwidth"):
        raise InputError(f"network '{text}': {name} is to be positive and finite")
    return number


def _name(bandwidth: float, round_trip: float) -> str:
    fitting = [each for each, bits in _BANDWIDTHS.items() if bits <= bandwidth]
    unit = fitting[-1] if fitting else "bps"
    return f"{bandwidth / _BANDWIDTHS[unit]:g} {unit}, {round_trip * 1e3:g} ms"
