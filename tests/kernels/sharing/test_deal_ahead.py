"""Every kernel gives the same from stored material, with ordinary and with masked shares."""

import os

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.protocol.party import Party, run
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.protocol.three_threads import fresh_keys, run_three
from ditto_kernels.sharing.deal_ahead import deal_ahead, dealers_part, in_phase, nothing, remask
from ditto_kernels.values.formats import decode, encode
from ditto_kernels.values.replicated import reconstruct, share
from tests.kernels.examples import EXAMPLES, F, draw, on_grid, specs


def parts_of(operands, random_bytes=os.urandom):
    """Return each operand's shares for each party. Public operands stay as they are."""
    return [
        share(encode(*each), each[1], random_bytes) if isinstance(each, tuple) else (each,) * 3
        for each in operands
    ]


def online(keys, dealt, program):
    """Run three threads in the online phase, in which nothing may be dealt any more."""
    results, traffic = run_three(
        lambda party, link: run(link, program(in_phase(party, "online"))), keys=keys, dealt=dealt, timeout=30
    )
    assert all(each.offline_bytes == 0 for each in traffic)
    return results, traffic


def delivered(sent):
    """Return the tensors that each party finds in its mailbox."""
    boxes = ({}, {}, {})
    for rank, sends in enumerate(sent):
        for each in sends:
            boxes[each.to][rank, each.tag] = each.array
    return boxes


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_what_was_dealt_ahead_serves_an_online_run(rng, example, dealer):
    kernel, out = KERNELS[example.kernel], F(example.out)
    operands, keys = [draw(each, rng) for each in example.operands], fresh_keys()
    shapes = [nothing(each[0].shape, each[1]) if isinstance(each, tuple) else each for each in operands]
    sent = []
    for rank in range(3):
        party = in_phase(Party(rank, Randomness(keys[rank]), dealer), "ahead")
        dealing = kernel.all_deal or rank == dealer
        sent.append(
            deal_ahead(kernel.run(party, *shapes, out=out, **example.attributes))[1] if dealing else []
        )
    parts = parts_of(operands)
    results, traffic = online(
        keys,
        delivered(sent),
        lambda party: kernel.run(
            party.with_dealer(dealer), *[each[party.rank] for each in parts], out=out, **example.attributes
        ),
    )
    expected = np.asarray(kernel.reference(*map(on_grid, operands), **example.attributes))
    bound = kernel.error(*specs(example), out=out, **example.attributes)
    assert np.max(np.abs(decode(reconstruct(results), out) - expected)) <= bound
    cost = kernel.cost(*specs(example), out=out, **example.attributes)
    sizes, dealt_sizes = cost.by_rank(dealer)
    assert tuple(each.bytes_sent for each in traffic) == sizes
    assert tuple(sum(each.array.nbytes for each in sends) for sends in sent) == dealt_sizes
    assert max(each.rounds for each in traffic) == cost.rounds


def test_material_is_the_same_whenever_it_is_dealt(rng):
    """Material depends on keys and names alone.

    Repeating the offline phase gives the same tensors, and other keys give others.
    """
    kernel, fxp = KERNELS["gelu"], F("fxp16.9")

    def dealt(keys):
        party = in_phase(Party(2, Randomness(keys[2])), "ahead")
        return deal_ahead(kernel.run(party, nothing((300,), fxp), out=fxp))[1]

    one, other = fresh_keys(), fresh_keys()
    first, again, another = dealt(one), dealt(one), dealt(other)
    assert all(np.array_equal(a.array, b.array) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a.array, b.array) for a, b in zip(first, another, strict=True))


MASKED = [example for example in EXAMPLES if not KERNELS[example.kernel].all_deal]


@pytest.mark.parametrize("example", MASKED, ids=str)
def test_with_masked_shares_the_dealer_works_ahead_and_sees_nothing_online(rng, example):
    """Rank 0 holds the two components that are masks, so that its part of the result precedes the inputs."""
    kernel, out = KERNELS[example.kernel], F(example.out)
    operands, keys = [draw(each, rng) for each in example.operands], fresh_keys()
    parts = parts_of(operands)
    dealer = Party(0, Randomness(keys[0]), dealer=0, masked=True, phase="ahead")
    known, sends = deal_ahead(kernel.run(dealer, *[each[0] for each in parts], out=out, **example.attributes))

    def program(party):
        if party.rank == 0:
            return known
            yield
        mine = [each[party.rank] for each in parts]
        return (
            yield from kernel.run(party._replace(dealer=0, masked=True), *mine, out=out, **example.attributes)
        )

    results, traffic = online(keys, delivered([sends, [], []]), program)
    expected = np.asarray(kernel.reference(*map(on_grid, operands), **example.attributes))
    bound = kernel.error(*specs(example), out=out, **example.attributes)
    assert np.max(np.abs(decode(reconstruct(results), out) - expected)) <= bound
    cost = kernel.cost(*specs(example), out=out, masked=True, **example.attributes)
    sizes, dealt_sizes = cost.by_rank(0)
    assert tuple(each.bytes_sent for each in traffic) == sizes and sizes[0] == 0
    assert (sum(each.array.nbytes for each in sends), 0, 0) == dealt_sizes
    assert max(each.rounds for each in traffic) == cost.rounds


@pytest.mark.parametrize("example", MASKED, ids=str)
def test_with_masked_shares_the_dealers_part_does_not_depend_on_inputs(rng, example):
    kernel, out = KERNELS[example.kernel], F(example.out)
    public = [draw(each, rng) for each in example.operands]
    seen = []
    for _ in range(2):
        operands = [
            draw(each, rng) if isinstance(fixed, tuple) else fixed
            for each, fixed in zip(example.operands, public, strict=True)
        ]
        parts = parts_of(operands, np.random.default_rng(7).bytes)  # The masks are the same, values differ.
        dealer = Party(0, Randomness(fresh_keys(b"same")[0]), dealer=0, masked=True, phase="ahead")
        known, sends = deal_ahead(
            kernel.run(dealer, *[each[0] for each in parts], out=out, **example.attributes)
        )
        seen.append([np.asarray(known.mine), np.asarray(known.next), *(each.array for each in sends)])
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_remasking_gives_the_dealer_fresh_masks_that_it_knew(mpc, rng):
    fxp, keys = F("fxp32.12"), fresh_keys()
    x = rng.uniform(-3, 3, (4, 5))
    parts = parts_of([(x, fxp)])[0]
    results, traffic = run_three(
        lambda party, link: run(link, remask(party.with_dealer(0), parts[party.rank])), keys=keys
    )
    assert np.array_equal(reconstruct(results), encode(x, fxp))
    before = dealers_part(Party(0, Randomness(keys[0]), dealer=0), x.shape, fxp)
    assert np.array_equal(before.mine, results[0].mine) and np.array_equal(before.next, results[0].next)
    assert tuple(each.bytes_sent for each in traffic) == cost_of(remask, Spec(x.shape, fxp)).by_rank(0)[0]
