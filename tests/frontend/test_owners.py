"""Test whose an array is: the grammar of `public` and `owner`, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import trace

X = np.ones((2, 2), np.float32)
PARAMS = {"base": {"0": {"w": X, "b": X}, "1": {"w": X}}, "lora": {"a": X}}


def model(params, x, *rest, **more):
    leaves = [params["base"]["0"]["w"], params["base"]["0"]["b"], params["base"]["1"]["w"]]
    return sum(leaves, params["lora"]["a"]) @ x


def levels(public=(), owner=None, **more):
    traced = trace(model, (PARAMS, X), more, public=public, owner=owner)
    return {each.path: "public" if each.public else each.owner or "secret" for each in traced.arguments}


def test_a_longer_pattern_decides():
    found = levels(("params.base",), {"params": "server", "x": "client"})
    assert found == {
        "params/base/0/b": "public",
        "params/base/0/w": "public",
        "params/base/1/w": "public",
        "params/lora/a": "server",
        "x": "client",
    }
    assert levels(("params",), {"params.base.0": "server"})["params/base/0/w"] == "server"
    assert levels(("params",), {"params.base.0": "server"})["params/base/1/w"] == "public"


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("params.base.[1-9]", {"params/base/1/w"}),
        ("params.*.0.b", {"params/base/0/b"}),
        ("params.**.w", {"params/base/0/w", "params/base/1/w"}),
        ("params.l*", {"params/lora/a"}),
    ],
)
def test_parts_are_matched_as_file_names_are(pattern, matched):
    found = levels((pattern,))
    assert {path for path, level in found.items() if level == "public"} == matched


def test_without_an_owner_an_array_is_secret_to_everybody():
    assert set(levels().values()) == {"secret"}
    assert levels(("more",), z=X)["z"] == "public"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"owner": {"parms": "server"}}, "owner names 'parms'.*did you mean 'params'"),
        ({"owner": {"params.bsae": "server"}}, "nothing in 'params' is called 'bsae': did you mean 'base'"),
        ({"public": ("params.base.7",)}, r"public names 'params.base.7', but nothing in 'params.base' is"),
        (
            {"public": ("params",), "owner": {"params": "server"}},
            "'params/base/0/b' is public by 'params' and server's by 'params'.*longer",
        ),
        ({"owner": {"params.*": "a", "params.base": "b"}}, "is a's by 'params.\\*' and b's by 'params.base'"),
        ({"owner": {"x": "public"}}, "the owner of 'x' must be a name, not 'public'.*use `public`"),
        ({"owner": {"x": 3}}, "the owner of 'x' must be a name, not 3"),
        ({"owner": "server"}, 'owner must be a dictionary of names: write owner={"params"'),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        ditto.secure(model, **options)(PARAMS, X)
