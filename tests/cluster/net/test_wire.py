"""Tests messages as bytes: a packed message can be read, and nothing else is accepted."""

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.wire import MAX_HEADER, PREFIX_BYTES, VERSION, pack, read_header, read_prefix

TENSORS = [("a", np.arange(6, dtype=np.int64).reshape(2, 3)), ("b", np.zeros((), np.uint8))]
LIMIT = 1 << 20


def read(data: bytes, sequence: int = 3):
    prefix = read_prefix(data[:PREFIX_BYTES], sequence, LIMIT)
    return prefix, *read_header(prefix, data[PREFIX_BYTES : PREFIX_BYTES + prefix.header_bytes])


def with_header(header: object, body: int = 0) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    prefix = struct.pack("<4sBBQIQI", b"DTTO", VERSION, 0, 3, len(data), body, zlib.crc32(data))
    return prefix + struct.pack("<I", zlib.crc32(prefix)) + data


def test_what_is_packed_is_read():
    prefix, facts, specs = read(pack("tensors", 3, {"clock": 5}, TENSORS))
    assert (prefix.kind, prefix.body_bytes, facts) == ("tensors", 49, {"clock": 5})
    assert [(each.name, each.dtype, each.shape) for each in specs] == [
        ("a", np.dtype(np.int64), (2, 3)),
        ("b", np.dtype(np.uint8), ()),
    ]


def test_every_flipped_bit_of_prefix_and_header_is_refused():
    data = pack("tensors", 3, {"clock": 5}, TENSORS)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LinkError):
            read(bytes(changed))


@pytest.mark.parametrize("sequence", [2, 4])
def test_lost_repeated_and_reordered_messages_are_refused(sequence):
    with pytest.raises(LinkError, match=r"message 3 arrived in place of \d: lost, repeated or reordered"):
        read(pack("hello", 3, {}), sequence)


def test_sizes_are_bounded_before_anything_is_allocated():
    with pytest.raises(LinkError, match="announces"):
        read(pack("tensors", 3, {}, [("big", np.zeros(LIMIT + 1, np.uint8))]))
    with pytest.raises(LinkError, match="too long"):
        pack("hello", 3, {"text": "x" * MAX_HEADER})


@pytest.mark.parametrize(
    "header",
    [
        b"\xff",
        b"[" * 100_000,
        [],
        {},
        {"facts": [], "tensors": []},
        {"facts": {}, "tensors": {}},
        {"facts": {}, "tensors": [["a"]]},
        {"facts": {}, "tensors": [["a", "object", [1]]]},
        {"facts": {}, "tensors": [["a", ["int8"], [1]]]},
        {"facts": {}, "tensors": [["a", "int8", [-1]]]},
        {"facts": {}, "tensors": [["a", "int8", [True]]]},
        {"facts": {}, "tensors": [["a", "int8", [0, 1 << 60]]]},
        {"facts": {}, "tensors": [["a", "int8", [1] * 17]]},
        {"facts": {}, "tensors": [["a", "int8", [2]]]},
    ],
    ids=range(14),
)
def test_malformed_headers_are_refused(header):
    with pytest.raises(LinkError):
        read(with_header(header, body=1))


def test_a_dtype_that_no_message_carries():
    with pytest.raises(LinkError, match="complex64"):
        pack("tensors", 0, {}, [("a", np.zeros(1, np.complex64))])


@settings(max_examples=2000, deadline=None)
@given(st.binary(min_size=PREFIX_BYTES, max_size=PREFIX_BYTES))
def test_random_bytes_are_refused(data):
    with pytest.raises(LinkError):
        read_prefix(data, 0, LIMIT)


@settings(max_examples=1000, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["facts", "tensors"]), inner, max_size=2)
        ),
    )
)
def test_random_headers_never_do_more_than_raise_link_errors(header):
    try:
        _, facts, specs = read(with_header(header))
    except LinkError:
        return
    assert isinstance(facts, dict)
    assert all(each.nbytes == 0 for each in specs)
