"""Tests plans of clients that mean harm: each is refused, no party dies, and others are served meanwhile."""

import json
import os
import threading
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.hostile_plans import HOSTILE, doubling, local, on_spu, products, public
from ditto_kernels import KERNELS
from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import Round
from ditto_kernels.values.formats import Fxp
from ditto_spu import connect, secure
from ditto_spu.cluster.party import session
from ditto_spu.cluster.party.plan_checker import PlanChecker
from ditto_spu.errors import ClusterError, PartyError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.plan.plan import Input, KernelStep, Plan, Var
from ditto_spu.plan.resources import PlanLimits
from tests.cluster.conftest import plan_checker

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
LIMITS = PlanLimits(1 << 30, 1 << 34, 10**13)


@secure
def small(x):
    """Compute one GeLU."""
    return jax.nn.gelu(x)


def refused(data, match, checker=None, seconds=60.0, client="mallory"):
    with pytest.raises(ClusterError, match=match):
        (checker or plan_checker()).check(client, data, LIMITS, seconds)


@pytest.mark.parametrize("kind", [local, public, on_spu])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_are_refused(name, kind):
    text, reason = HOSTILE[name]
    refused(encode_plan(kind(text)), reason)


def test_a_check_that_dies_is_a_refusal(monkeypatch):
    """The parser is the last thing that a plan may crash. The next plan is checked as usual."""
    checker = plan_checker()
    assert checker.check("bob", encode_plan(small.lower(X).plan), LIMITS, 60.0).need.bytes > 0
    refused(encode_plan(local(doubling(14))), "ended early", seconds=0.01)
    assert (
        checker.check("bob", encode_plan(small.lower(X).plan), LIMITS, 60.0).hash
        == small.lower(X).plan.hash()
    )


def test_a_checker_that_was_killed_starts_again():
    checker = PlanChecker()
    try:
        data = encode_plan(small.lower(X).plan)
        checker.start()
        for work in (10**12, 10**13):
            checker._process.kill()
            assert checker.check("bob", data, replace(LIMITS, work=work), 60.0).need.work > 0
    finally:
        checker.close()
    assert checker._process is None


def test_a_plan_that_has_passed_is_not_checked_again(monkeypatch):
    checker, data = plan_checker(), encode_plan(small.lower(X[:2]).plan)
    first = checker.check("alice", data, LIMITS, 60.0)
    with monkeypatch.context() as patched:
        patched.setattr(checker, "_ask", lambda *_: pytest.fail("it is checked again"))
        assert checker.check("bob", data, LIMITS, 60.0) == first
    with pytest.raises(ClusterError, match="longer than a request may take"):
        checker.check("bob", data, replace(LIMITS, work=1), 60.0)
    with pytest.raises(ClusterError, match="no plan") as refusal:
        checker.check("bob", data[:-1], LIMITS, 60.0)
    assert refusal.value.seconds > 0
    monkeypatch.setattr(checker, "_ask", lambda *_: pytest.fail("it is checked again"))
    with pytest.raises(ClusterError, match="no plan") as refusal:
        checker.check("alice", data[:-1], LIMITS, 60.0)
    assert refusal.value.seconds == 0


def test_one_plan_of_each_client_is_checked_at_a_time_in_turns(monkeypatch):
    """A client with one plan goes before one that has sent many. A check of who has left is not made."""
    checker, order, release = PlanChecker(), [], threading.Event()

    def ask(data, *_):
        order.append(data.decode())
        release.wait(60)
        return {"refusal": "of a test", "seconds": 0.1}

    monkeypatch.setattr(checker, "_ask", ask)
    threads = []
    for number, name in enumerate(("m1", "m2", "m3", "a1")):
        client = {"m": "mallory", "a": "alice"}[name[0]]
        arguments = name.encode(), "of a test", checker, 60.0, client
        threads.append(threading.Thread(target=refused, args=arguments))
        threads[-1].start()
        while len(order) + checker._line.waiting <= number:
            time.sleep(0.01)
    with pytest.raises(LinkError, match="has left"):
        checker.check("bob", b"b1", LIMITS, 60.0, lambda: LinkError("has left"))
    release.set()
    for each in threads:
        each.join()
    assert order == ["m1", "a1", "m2", "m3"]


def test_hostile_kernels_are_refused():
    plan = small.lower(X).plan
    table = json.loads(encode_plan(plan))
    kernels = [each for each in table["steps"] if each["kind"] == "kernel"]
    assert kernels
    for value in (10**30, -1, 1 << 40, "x", [[[]]], {"fxp": "fxp64.63"}):
        changed = json.loads(json.dumps(table))
        step = next(each for each in changed["steps"] if each["kind"] == "kernel")
        step["attributes"].append(["of", value])
        refused(json.dumps(changed).encode(), "refused")


@pytest.mark.parametrize(
    ("shapes", "dims"),
    [
        (((3, 1 << 15), (4, 4)), (((1,), (0,)), ((), ()))),
        (((3, 4), (7, 4)), (((1,), (0,)), ((), ()))),
        (((3, 4), (4, 4)), (((-1,), (0,)), ((), ()))),
        (((3, 4), (4, 4)), (((1,), (2,)), ((), ()))),
        (((3, 4), (4, 4)), (((1, 1), (0, 0)), ((), ()))),
        (((3, 4, 4), (2, 4, 4)), (((2,), (1,)), ((0,), (0,)))),
        (((3, 4, 4), (3, 4, 4)), (((2,), (1,)), ((0,), ()))),
    ],
)
@pytest.mark.parametrize("kernel", ["matmul", "matmul_public"])
def test_products_of_shapes_that_do_not_fit_are_refused(kernel, shapes, dims):
    """The code of products reads as much memory as the shapes say, which would be that of others."""
    fxp = Fxp(64, 18)
    left, right = shapes
    free = [size for axis, size in enumerate(right) if axis not in (*dims[0][1], *dims[1][1])]
    out = Var((*left[:-1], *free), "float32", fxp, "z")
    public = kernel == "matmul_public"
    variables = (
        Var(left, "float32", fxp, "x"),
        Var(right, "float32", None if public else fxp, "w"),
        out,
    )
    attributes = (("dims", dims), *((("weight_fraction_bits", 10),) if public else ()))
    step = KernelStep("s", kernel, (0, 1), (2,), attributes, (0,))
    plan = Plan("p", "c", variables, (Input("x", 0), Input("w", 1)), (step,), (2,), ((0,),))
    refused(encode_plan(plan), "have no product by")


def test_what_a_call_needs_is_counted():
    def wide(x):
        return jnp.sum(jnp.tanh(x) * x)

    def need(shape, limits=LIMITS):
        plan = secure(wide).lower(jax.ShapeDtypeStruct(shape, np.float32)).plan
        return plan_checker().check("bob", encode_plan(plan), limits, 60.0).need

    one, two = need((64, 64)), need((128, 64))
    assert 16 * 64 * 64 <= one.bytes < two.bytes
    assert one.work < two.work
    for limits, reason in (
        (replace(LIMITS, total_bytes=two.bytes - 1), "bytes at a time"),
        (replace(LIMITS, work=two.work - 1), "takes longer than a request may take"),
        (replace(LIMITS, value_bytes=8 * 128 * 64 - 1), "larger than the limit"),
    ):
        with pytest.raises(ClusterError, match=reason):
            need((128, 64), limits)


def rss():
    with open(f"/proc/{os.getpid()}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def test_parties_serve_others_while_a_client_sends_hostile_plans(trial, monkeypatch):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nplan_mb = 1\n")
    trial.serve()
    plans = [
        encode_plan(local(HOSTILE[name][0]))
        for name in ("calls itself", "brackets", "no brackets", "much work")
    ]
    plans.append(encode_plan(replace(local(HOSTILE["calls itself"][0]), name="x" * (28 << 20))))
    done, refusals = threading.Event(), []
    monkeypatch.setattr("ditto_spu.cluster.party.session._CHECK", 0)  # the next plan is checked soon

    def attack():
        with connect(trial.file, "bob") as mallory:
            mallory._session(lambda: None)
            while not done.is_set():
                for each in plans:
                    with pytest.raises(ClusterError, match="the plan is refused"):
                        mallory._parties.ask("plan", {}, [("plan", np.frombuffer(each, np.uint8))], "planned")
                    refusals.append(each)

    with connect(trial.file, "alice") as alice:
        alice.run(small, X)
        before, thread = rss(), threading.Thread(target=attack)
        thread.start()
        while len(refusals) < len(plans):
            assert thread.is_alive()
            for shape in ((3, 4), (4, 3)):
                x = X.reshape(shape)
                assert alice.run(small, x).outputs == pytest.approx(np.asarray(jax.nn.gelu(x)), abs=0.01)
            time.sleep(0.05)
        done.set()
        thread.join()
    assert rss() - before < 1 << 29


def test_a_request_that_computes_too_long_ends_in_the_middle_of_a_kernel(trial, monkeypatch, eventually):
    """One party's kernel goes on and on. Its next round ends it, and the waits of the two others end."""
    trial.serve()
    execute, gelu = session.execute, KERNELS["gelu"]

    def endless(party, *operands, **options):
        result = yield from gelu.run(party, *operands, **options)
        while party.phase != "ahead":
            time.sleep(0.01)
            yield Round()
        return result

    with connect(trial.file, "alice") as client:
        client.run(small, X)
        with monkeypatch.context() as patched:
            patched.setattr(
                session, "execute", lambda *arguments: execute(*arguments[:-2], 1.0, arguments[-1])
            )
            patched.setitem(KERNELS, "gelu", replace(gelu, run=endless))
            with pytest.raises(PartyError, match=r"has computed for 1 s, `request`"):
                client.run(small, X)
            eventually(lambda: not any(server._shared.turns.running for server in trial.servers))
        assert client.run(small, X).outputs == pytest.approx(np.asarray(jax.nn.gelu(X)), abs=0.01)


def test_a_step_that_nothing_interrupts_has_a_limit_of_its_own():
    plan = local(products(2))
    with pytest.raises(ClusterError, match="longer than a request may take"):
        plan_checker().check("bob", encode_plan(plan), replace(LIMITS, work=10**14), 60.0)


def test_a_batch_that_needs_too_much_is_refused(trial):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nrequest_mb = 1\n")
    trial.serve()
    x = np.zeros((32, 32), np.float32)
    with connect(trial.file, "alice") as client:
        assert client.run(small, x).outputs == pytest.approx(x, abs=0.01)
        with pytest.raises(ClusterError, match=r"16 inputs at a time need .*send fewer in one request"):
            client.run_many(small, [(x,)] * 16)
