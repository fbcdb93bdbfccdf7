"""Test configurations: the grammar, the precedence of rules, and every error message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import ConfigError
from ditto_spu.ops.decision import Nth
from ditto_spu.rules.load import Config, Rule, configurations, load_config
from ditto_spu.rules.rule import APPROXIMATIONS, SUBJECTS


def config(*rules: dict[str, Any], default: str = "fxp32.12") -> Config:
    return load_config({"default": default, "rule": list(rules)})


@pytest.mark.parametrize("name", ["ditto", "ditto-paper", "uniform64"])
def test_shipped_configurations_load(name: str) -> None:
    loaded = load_config(name)
    assert loaded.name == name and loaded.description and loaded.source == f"{name}.toml"
    assert name in configurations()
    for op in SUBJECTS:
        for path in ("", "encoder/layer/0/attention/self", "layer/3/output/dense", "layer/1/output"):
            choice = loaded.lookup(op, path)  # it also checks that each range fits its format
            assert choice.approx is None or choice.approx in APPROXIMATIONS.get(op, ())


def test_the_papers_formats() -> None:
    paper = load_config("ditto-paper")
    assert str(paper.lookup("matmul", "x").format) == "fxp32.8"
    norm = paper.lookup("layer_norm", "x")
    assert (str(norm.format), str(norm.inner)) == ("fxp32.8", "fxp64.18")
    softmax = paper.lookup("softmax", "x")
    assert (str(softmax.operand), str(softmax.inner)) == ("fxp32.8", "fxp64.18")
    assert paper.lookup("gelu", "x").approx == "quad"


def test_a_config_passes_through() -> None:
    made = config()
    assert load_config(made) is made


def test_first_rule_wins_value_by_value() -> None:
    made = config(
        {"path": "a/.*", "op": "gelu", "approx": "quad"},
        {"op": "gelu", "approx": "fourier", "operand": "fxp16.9"},
        {"range": 7},
    )
    choice = made.lookup("gelu", "a/b")
    assert (choice.approx, str(choice.operand), choice.range) == ("quad", "fxp16.9", 7.0)
    assert str(choice.format) == "fxp32.12" and choice.inner is None
    assert choice.rules == {0, 1, 2}
    assert made.lookup("gelu", "c").rules == {1, 2}
    assert made.lookup("add", "a/b").rules == {2}


def test_paths_match_as_a_whole() -> None:
    made = config({"path": "layer/1", "format": "fxp64.18"})
    assert str(made.lookup("add", "layer/1").format) == "fxp64.18"
    assert str(made.lookup("add", "layer/10").format) == "fxp32.12"
    assert str(made.lookup("add", "encoder/layer/1").format) == "fxp32.12"


def test_rules_in_python() -> None:
    rule = Rule(op=("gelu", "tanh"), path=r"layer/\d", format=Fxp(16, 9), range=60.0, approx="fourier")
    assert str(rule).splitlines() == [
        r"path = 'layer/\d'",
        'op = ["gelu", "tanh"]',
        'format = "fxp16.9"',
        "range = 60",
        'approx = "fourier"',
    ]
    assert Config(name="mine", default_format=Fxp(32, 8), rules=(rule,)).lookup("tanh", "layer/2").range == 60


def test_rules_about_one_of_several_ops() -> None:
    made = config({"path": "a", "op": "multiply", "number": [1, 3], "of": 3, "range": 5}, {"range": 7})
    ranges = [made.lookup("multiply", "a", Nth(number, 3)).range for number in (1, 2, 3)]
    assert ranges == [5, 7, 5]
    assert made.lookup("multiply", "a").range == made.lookup("multiply", "b", Nth(1, 4)).range == 7
    assert str(made.rules[0]).splitlines()[2:4] == ["number = [1, 3]", "of = 3"]
    with pytest.raises(ConfigError, match="rule 1: it was written for a program with 3 ops of kind multiply"):
        made.lookup("multiply", "a", Nth(1, 4))


def test_unused_rules() -> None:
    made = config(
        {"op": "gelu", "approx": "quad"},
        {"op": "tanh", "approx": "fourier", "optional": True},
        {"path": "encoder/layr/0", "format": "fxp64.18"},
    )
    assert made.unused_rules({0}) == (2,)
    made.refuse_unused_rules({0, 2})
    with pytest.raises(ConfigError) as caught:
        made.refuse_unused_rules({0}, ["encoder/layer/0", "pooler"])
    assert str(caught.value) == (
        "a dictionary, rule 3: no op of this program takes a value from this rule; correct it, move it "
        "before the rules that hide it, or mark it `optional = true`: did you mean 'encoder/layer/0'?\n"
        '  [[rule]]\n  path = "encoder/layr/0"\n  format = "fxp64.18"'
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"op": "gelu", "aprox": "quad"}, "unknown key 'aprox': did you mean 'approx'?"),
        ({"op": "sofmax", "format": "fxp32.8"}, "unknown op 'sofmax': did you mean 'softmax'?"),
        (
            {"op": "gelu", "approx": "fourrier"},
            "gelu has no approximation 'fourrier': did you mean 'fourier'?",
        ),
        (
            {"op": "gelu", "approx": "2relu"},
            "approximation '2relu' is for softmax, not for gelu: "
            "choose one of fourier, precise, table, even, puma, quad",
        ),
        ({"op": "add", "approx": "quad"}, "add has no approximations to choose from: remove approx = 'quad'"),
        ({"approx": "quad"}, "approx = 'quad' needs the op it is for: add a line such as op = \"gelu\""),
        (
            {"path": "layer/(", "format": "fxp32.8"},
            "path 'layer/(' is not a regular expression: missing ), unterminated subpattern at position 6",
        ),
        (
            {"op": "gelu", "format": "fxp32.32"},
            "format: 32 fraction bits do not fit a ring of 32 bits: choose 0 to 31",
        ),
        ({"op": "gelu", "inner": "fxp24.8"}, "inner: ring of 24 bits: choose one of 8, 16, 32, 64"),
        (
            {"op": "gelu", "operand": "fixed16"},
            "operand: 'fixed16' is not a format: write fxp<ring bits>.<fraction bits>, such as fxp32.12",
        ),
        (
            {"op": "gelu", "format": "fxp16.9", "range": 64},
            "range 64 does not fit fxp16.9, which holds magnitudes below 64",
        ),
        ({"range": -1}, "range -1 is not a positive finite number"),
        ({"range": float("nan")}, "range nan is not a positive finite number"),
        ({"range": "60"}, "range must be a number, not '60'"),
        ({"op": [], "range": 1}, "op must be a name or a list of names"),
        ({"path": 3, "range": 1}, "path must be a string, not 3"),
        (
            {"op": "add", "number": 2, "range": 1},
            "number and of go together: number = [1, 3] and of = 4 are two of four ops",
        ),
        ({"op": "add", "number": [0], "of": 2, "range": 1}, "number [0] does not lie within 1 to 2"),
        (
            {"op": "add", "number": [1.5], "of": 2, "range": 1},
            "number must be a whole number or a list of them",
        ),
        (
            {"number": 1, "of": 2, "range": 1},
            "numbers count the ops of one kind at a path: name one op that is no input",
        ),
        ({"optional": "yes", "range": 1}, "optional must be true or false, not 'yes'"),
        (
            {"op": "gelu"},
            "a rule without a value does nothing: set one of format, operand, inner, range, approx, error",
        ),
    ],
)
def test_rule_errors_name_place_and_remedy(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config({"op": "tanh", "approx": "fourier"}, rule)
    first, header, *text = str(caught.value).splitlines()
    assert first == f"a dictionary, rule 2: {message}"
    assert header == "  [[rule]]" and len(text) == len(rule)


def test_range_against_the_format_of_another_rule() -> None:
    made = config({"op": "gelu", "range": 100}, {"op": "gelu", "format": "fxp16.9"})
    with pytest.raises(
        ConfigError, match=r"rule 1: range 100 does not fit fxp16.9.*gelu at 'a/b' is set by rule 2"
    ):
        made.lookup("gelu", "a/b")
    with pytest.raises(ConfigError, match="add at '' is set by the default"):
        config({"range": 2.0**19}).lookup("add", "")


def test_lookup_of_an_unknown_op() -> None:
    with pytest.raises(ConfigError, match="unknown op 'dot': choose one of input, weight, matmul"):
        config().lookup("dot", "")


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="there is no configuration 'dito': did you mean 'ditto'"):
        load_config("dito")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml cannot be read: No such file"):
        load_config(tmp_path / "mine.toml")
    with pytest.raises(ConfigError, match=r"mine\.toml cannot be read"):
        load_config("mine.toml")


def test_syntax_error_shows_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('default = "fxp32.8"\n[[rule]]\nop = gelu\n')
    with pytest.raises(ConfigError, match=r"(?s)mine\.toml is not valid TOML: .*line 3.*\n  op = gelu"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'mine.toml: the default format is missing: add a line such as default = "fxp32.12"'),
        ('defualt = "fxp32.8"', "mine.toml: unknown key 'defualt': did you mean 'default'?"),
        (
            'default = "fxp32.40"',
            "mine.toml: default: 40 fraction bits do not fit a ring of 32 bits: choose 0 to 31",
        ),
        (
            'default = "fxp32.8"\n[rule]\nop = "gelu"',
            "mine.toml: rules are written as [[rule]] tables, with two brackets",
        ),
    ],
)
def test_file_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert str(caught.value) == message
