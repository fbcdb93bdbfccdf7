"""Find the row that a value repeats, such as the bias of a layer."""

from __future__ import annotations

from ditto_spu import ir


def repeated_row(value: ir.Value) -> ir.Value | None:
    """Return the row that is repeated along all dimensions but the last, or None if it is no such value."""
    maker, shape = ir.define(value), ir.shape(value)
    if maker is None or maker.name != "stablehlo.broadcast_in_dim":
        return None
    source, dims = maker.operands[0], ir.attribute(maker, "broadcast_dimensions")
    sizes = {place: size for place, size in zip(dims, ir.shape(source), strict=True) if size > 1}
    if sizes != {len(shape) - 1: shape[-1]}:
        return None
    while (maker := ir.define(source)) is not None and maker.name == "stablehlo.reshape":
        source = maker.operands[0]
    return source
