"""Make plans of a client that means harm: programs that crash or fill a parser, and wild numbers."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.plan.codec import encode_plan
from ditto_spu.plan.plan import Input, LocalInput, LocalStep, Plan, PublicStep, SpuStep, Var

FORMAT = Fxp(64, 18)
T = "tensor<4xi64>"
IDENTITY = f"%o = stablehlo.negate %a : {T}"
NUMBERS: tuple[Any, ...] = (
    -1,
    0,
    1,
    7,
    1 << 15,
    1 << 31,
    1 << 40,
    10**30,
    0.5,
    "fxp64.63",
    "fxp8.7",
    None,
    True,
    [],
    [1 << 20],
)


def local(text: str, name: str = "p") -> Plan:
    """Return a plan of one local step."""
    variables = (Var((4,), "float32", FORMAT, "x"), Var((4,), "float32", FORMAT, "y"))
    step = LocalStep("s", text, (LocalInput(0, "share"),), (1,))
    return Plan(name, "c", variables, (Input("x", 0),), (step,), (1,), ((0,),))


def public(text: str) -> Plan:
    """Return a plan of one public step."""
    variables = (Var((4,), "int64", None, "x"), Var((4,), "int64", None, "y"))
    return Plan("p", "c", variables, (Input("x", 0),), (PublicStep("s", text, (0,), (1,)),), (1,), ((0,),))


def on_spu(text: str) -> Plan:
    """Return a plan of one step on SPU."""
    variables = (Var((4,), "int64", Fxp(64, 0), "x"), Var((4,), "int64", Fxp(64, 0), "y"))
    return Plan("p", "c", variables, (Input("x", 0),), (SpuStep("s", text, (0,), (1,)),), (1,), ((0,),))


def main(body: str, more: str = "", attributes: str = "") -> str:
    return (
        f"module @m {attributes} {{ func.func public @main(%a: {T}) -> {T} {{ {body}\n return %o : {T} }}\n"
        f"{more} }}"
    )


def function(name: str, body: str) -> str:
    return f"func.func private @{name}(%a: {T}) -> {T} {{ {body}\n return %o : {T} }}\n"


def call(name: str, value: str = "%a", result: str = "%o") -> str:
    return f"{result} = call @{name}({value}) : ({T}) -> {T}\n"


def doubling(count: int) -> str:
    functions = [function("f0", f"%o = stablehlo.negate %a : {T}")]
    for number in range(1, count):
        before = f"f{number - 1}"
        functions.append(function(f"f{number}", call(before, result="%b") + call(before, "%b")))
    return main(call(f"f{count - 1}"), "".join(functions))


def chain(count: int) -> str:
    functions = [function("f0", f"%o = stablehlo.negate %a : {T}")]
    functions += [function(f"f{number}", call(f"f{number - 1}")) for number in range(1, count)]
    return main(call(f"f{count - 1}"), "".join(functions))


def huge(count: int) -> str:
    """Return a program that fills and adds up many numbers, and adds the sum to its argument."""
    return main(
        f"""%i = stablehlo.iota dim = 0 : tensor<{count}xi64>
  %z = stablehlo.constant dense<0> : tensor<i64>
  %r = stablehlo.reduce(%i init: %z) applies stablehlo.add across dimensions = [0] :
    (tensor<{count}xi64>, tensor<i64>) -> tensor<i64>
  %b = stablehlo.broadcast_in_dim %r, dims = [] : (tensor<i64>) -> {T}
  %o = stablehlo.add %a, %b : {T}"""
    )


def hidden_in_a_region(count: int) -> str:
    """Return a program whose reduction makes a large value for each element."""
    return main(
        f"""%z = stablehlo.constant dense<0> : tensor<i64>
  %r = "stablehlo.reduce"(%a, %z) <{{dimensions = array<i64: 0>}}> ({{ ^bb0(%x: tensor<i64>, %y: tensor<i64>):
    %i = stablehlo.iota dim = 0 : tensor<{count}xi64>
    %s = stablehlo.slice %i [0:1] : (tensor<{count}xi64>) -> tensor<1xi64>
    %t = stablehlo.reshape %s : (tensor<1xi64>) -> tensor<i64>
    stablehlo.return %t : tensor<i64> }}) : ({T}, tensor<i64>) -> tensor<i64>
  %o = stablehlo.broadcast_in_dim %r, dims = [] : (tensor<i64>) -> {T}"""
    )


def products(count: int) -> str:
    """Return a program that multiplies large matrices again and again."""
    matrix = f"tensor<{1 << 13}x{1 << 13}xi64>"
    lines = [f"%m0 = stablehlo.iota dim = 0 : {matrix}"]
    for number in range(count):
        lines.append(
            f"%m{number + 1} = stablehlo.dot_general %m{number}, %m0, contracting_dims = [1] x [0] : "
            f"({matrix}, {matrix}) -> {matrix}"
        )
    lines.append(f"%s = stablehlo.slice %m{count} [0:1, 0:4] : ({matrix}) -> tensor<1x4xi64>")
    return main("\n".join([*lines, f"%o = stablehlo.reshape %s : (tensor<1x4xi64>) -> {T}"]))


def many(count: int) -> str:
    """Return a program with many large values."""
    lines = [f"%c{number} = stablehlo.iota dim = 0 : tensor<{1 << 26}xi64>" for number in range(count)]
    return main("\n".join([*lines, IDENTITY]))


# By name: a program, and a part of the reason why it is refused.
HOSTILE = {
    "calls itself": (main(call("f"), function("f", call("f"))), "calls itself"),
    "calls in a circle": (
        main(call("f"), function("f", call("g")) + function("g", call("f"))),
        "calls itself",
    ),
    "a chain of calls": (chain(200), "nests more than 32 calls"),
    "doubling calls": (doubling(30), "more than 32768 operations"),
    "brackets": (
        main(IDENTITY, attributes="attributes {x = " + "[" * 100_000 + "]" * 100_000 + "}"),
        "brackets",
    ),
    "types": (
        main(IDENTITY, attributes="attributes {x = " + "tuple<" * 50_000 + "i1" + ">" * 50_000 + "}"),
        "bra",
    ),
    "no brackets": (
        main(IDENTITY, attributes="attributes {x = affine_map<() -> (" + "-" * 200_000 + "1)>}"),
        "refused",
    ),
    "a large value": (huge(10**12), "has 8000000000000 bytes"),
    "a value in a region": (hidden_in_a_region(10**12), "has 8000000000000 bytes"),
    "much work": (products(20), "takes longer than a request may take"),
    "many values": (many(40), "bytes at a time"),
    "no shape": (
        main(
            IDENTITY.replace("%o", "%b")
            + f"\n%c = stablehlo.convert %b : ({T}) -> tensor<?xi64>\n"
            + IDENTITY
        ),
        "unknown type or shape|refused",
    ),
    "a module inside": (main(IDENTITY, "module @n { }"), "refused"),
    "no function": ("module @m { }", "refused"),
}


def with_hostile_numbers(plan: Plan, rng: random.Random) -> bytes:
    """Return a plan, as it is sent, of the structure of `plan`, in which some values are others."""
    table = json.loads(encode_plan(plan))
    for _ in range(rng.randrange(1, 4)):
        node: Any
        key: Any
        node, key = table, rng.choice(("vars", "steps", "steps", "stages", "outputs"))
        while isinstance(node[key], list | dict) and node[key]:
            node = node[key]
            key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node[key] = copy.copy(rng.choice(NUMBERS))
    return json.dumps(table).encode()
