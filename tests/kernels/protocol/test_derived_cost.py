"""Derived costs equal the counts of links in every mode, and protocols that depend on data have none."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import Deal, Round, deal, exchange, parallel
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Fxp
from tests.kernels.examples import EXAMPLES, F, draw, specs

FXP = Fxp(16, 9)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_kernels_cost_is_what_links_count(mpc, rng, example, masked):
    kernel, out = KERNELS[example.kernel], F(example.out)
    operands = [draw(each, rng) for each in example.operands]
    with_masks = masked and not kernel.all_deal
    outcome = mpc(kernel.run, *operands, masked=with_masks, dealer=1, out=out, **example.attributes)
    outcome.assert_cost(kernel.cost(*specs(example), out=out, masked=masked, **example.attributes), 1)


def test_an_operand_may_be_anything_with_absent_arrays_in_it():
    value = Additive(absent((8,), np.dtype(np.int16)), FXP)
    assert cost_of(open_masked, value) == Cost((16, 16, 0), rounds=1)
    assert cost_of(to_rss, value) == Cost((16, 16, 0), rounds=1)


def test_protocols_beside_each_other_share_rounds():
    def twice(party, x):
        own = from_rss(party, x)
        yield from parallel(to_rss(party.at("one"), own), to_rss(party.at("other"), own))
        yield from to_rss(party.at("then"), own)

    assert cost_of(twice, Spec((8,), FXP)) == Cost((48, 48, 0), rounds=2)


def test_dealing_puts_no_protocol_out_of_step():
    def dealing(party, x):
        items = [Deal("first", (8,), np.dtype(np.int16)), Deal("second", (8,), np.dtype(np.int16))]
        for each in items:
            yield from deal(party.at(each.name), [each], lambda: [x.mine])
            yield from to_rss(party.at(each.name), from_rss(party, x))

    def beside(party, x):
        opening = to_rss(party.at("opening"), from_rss(party, x))
        yield from parallel(opening, dealing(party.at("dealing"), x), dealing(party.at("again"), x))

    assert cost_of(beside, Spec((8,), FXP)) == Cost((80, 80, 0), (0, 0, 64), rounds=2)


def test_messages_that_depend_on_data_have_no_cost():
    def leaking(party, x):
        own = from_rss(party, x).share
        yield from exchange(party, "some", own[own > 0] if party.role != "D" else own)

    def asking(party, x):
        if from_rss(party, x).share.sum() > 0:
            yield Round()

    for protocol in (leaking, asking):
        with pytest.raises(TypeError, match="depends on data"):
            cost_of(protocol, Spec((8,), FXP))


def test_messages_that_nobody_sends_or_of_another_shape_are_refused():
    def waiting(party, x):
        yield Round((), (party.expect(party.a, "never", (1,), FXP.dtype),))

    def other(party, x):
        sends = (party.send(party.b, "x", x.mine),) if party.role == "A" else ()
        expects = (party.expect(party.a, "x", (9,), FXP.dtype),) if party.role == "B" else ()
        yield Round(sends, expects)

    with pytest.raises(LinkError, match="wait"):
        cost_of(waiting, Spec((8,), FXP))
    with pytest.raises(LinkError, match="expected"):
        cost_of(other, Spec((8,), FXP))


def test_costs_of_unhashable_attributes_are_derived_too():
    kept = np.ones((3, 5), bool)
    cost = KERNELS["reduce_max"].cost(Spec((3, 5), FXP), out=FXP, mask=kept)
    assert cost == KERNELS["reduce_max"].cost(Spec((3, 5), FXP), out=FXP)
