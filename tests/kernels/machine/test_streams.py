"""Streams by generated code are those of OpenSSL, which are AES-128 in counter mode."""

import os
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ditto_kernels.machine import streams as made
from ditto_kernels.machine.aes_code import EXPAND, STREAM, module

SIZES = (0, 1, 15, 16, 17, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097, (1 << 18) + 1)


def expected(key, nonce, size):
    """The stream as the standard defines it."""
    return np.frombuffer(
        Cipher(algorithms.AES(key), modes.CTR(nonce + bytes(4))).encryptor().update(bytes(size)), np.uint8
    )


@pytest.fixture(params=["OpenSSL", 1, 2, 4])
def kind(request):
    """Each kind of streams that this processor has, by the blocks of a vector."""
    if request.param == "OpenSSL":
        return made.OpenSsl
    generated = made._generated()
    if generated is None or generated[1] < request.param:
        pytest.skip("this processor has no such vectors")
    from ditto_kernels.machine.compile import compiled, processor

    code = compiled(module(request.param), (EXPAND, STREAM), processor())
    return lambda key: made.Generated(key, code, request.param)


def test_streams_are_aes_in_counter_mode(kind):
    for key in (bytes(16), bytes(range(16)), os.urandom(16)):
        streams, nonce = kind(key), os.urandom(made.NONCE_BYTES)
        for size in SIZES:
            drawn = streams.draw(nonce, size)
            assert drawn.shape == (size,) and drawn.flags.writeable
            assert np.array_equal(drawn, expected(key, nonce, size))


def test_a_key_schedule_is_that_of_the_standard():
    """The example of FIPS 197, appendix A.1."""
    if made._generated() is None:
        pytest.skip("no code for streams here")
    streams = made.Generated(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), *made._generated())
    assert bytes(streams._keys[-16:]).hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


def test_threads_may_ask_for_their_first_streams_at_once():
    """Code lives as long as the streams that run it."""
    made._generated.cache_clear()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(made.streams(bytes(16)).draw(bytes(12), 100)))
        for _ in range(3)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 3 and all(
        np.array_equal(each, expected(bytes(16), bytes(12), 100)) for each in found
    )


@pytest.mark.parametrize("failure", [OSError, RuntimeError, ImportError])
def test_openssl_serves_where_code_cannot_be_made(failure, monkeypatch):
    from ditto_kernels.machine import compile

    def refuse(*_):
        raise failure("not here")

    monkeypatch.setattr(compile, "processor", refuse)
    made._generated.cache_clear()
    try:
        assert isinstance(made.streams(bytes(16)), made.OpenSsl)
    finally:
        made._generated.cache_clear()
