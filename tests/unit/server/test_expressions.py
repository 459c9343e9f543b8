"""``${...}`` and the paths inside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.server.expressions import java_text, parse, resolve
from podium.server.jsonpath import PathError, compile_path

DATA: dict[str, Any] = {
    "n": 7,
    "f": 1.5,
    "yes": True,
    "none": None,
    "text": "abc",
    "o": {"a": {"b": [1, 2]}},
    "l": [10, 20, 30],
    "ol": [{"k": 1, "s": "x"}, {"k": 2, "s": "y"}, {"s": "y"}],
    "a.b": "dotted",
    "da-sh": "dash",
    "which": "n",
    "nested": {"k": {"k": 3}},
}


def scope(root: str) -> Any:
    return {"workflow": {"input": DATA}}.get(root)


def value(path: str) -> Any:
    return resolve(f"${{workflow.input{path}}}", scope)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".n", 7),
        (".none", None),
        (".o", {"a": {"b": [1, 2]}}),
        (".o.a.b[1]", 2),
        ("['a.b']", "dotted"),
        ('["a.b"]', "dotted"),
        ("['o']['a'].b[0]", 1),
        (".da-sh", "dash"),
        (".l[-1]", 30),
        (".l[9]", None),
        (".missing.deep", None),
        (".n.x", None),
        (".l[*]", [10, 20, 30]),
        (".o.*", [{"b": [1, 2]}]),
        (".l[0:2]", [10, 20]),
        (".l[1:]", [20, 30]),
        (".l[:-1]", [10, 20]),
        (".l[0,2]", [10, 30]),
        (".l[ 0 , 2 ]", [10, 30]),
        ("['n', 'f', 'zz']", {"n": 7, "f": 1.5}),
        (".ol[0:2]['s','k']", [{"s": "x", "k": 1}, {"s": "y", "k": 2}]),
        (".missing[*].k", []),
        (".ol[*].k", [1, 2]),
        (".nested..k", [{"k": 3}, 3]),
        (".nested..['k']", [{"k": 3}, 3]),
        (".ol[?(@.k > 1)]", [{"k": 2, "s": "y"}]),
        (".ol[?(@.k>1)].s", ["y"]),
        (".ol[?(@.s == 'y')].k", [2]),
        (".ol[?(@.k)].k", [1, 2]),
        (".ol[?(!@.k)].s", ["y"]),
        (".ol[?(@.k >= 1 && @.s != 'x')].k", [2]),
        (".ol[?(@.k == 1 || (@.s == 'y' && @.k))].k", [1, 2]),
        (".ol[?(@.s < 1)]", []),
        (".l[?(@ > 15)]", [20, 30]),
        (".l.length()", 3),
        (".o.size()", 1),
        (".ol[*].length()", [2, 2, 1]),
        (".l.first()", 10),
        (".l.last()", 30),
        (".l.sum()", 60.0),
        (".l.avg()", 20.0),
        (".ol.min()", None),
        (".o.keys()", ["a"]),
        (".missing.first()", None),
        (".ol[?(@.k in [1, 5])].s", ["x"]),
        (".ol[?(@.s in ['y', 'z'])].k", [2]),
        (".ol[?(@.k nin [])].k", [1, 2]),
        (".ol[?(@.s =~ /Y/i)].k", [2]),
        (".ol[?(@.s =~ /.*z.*/)].k", []),
        (".ol[?(@.k =~ /1/)]", []),
        (".text.length()", None),
    ],
)
def test_paths(path: str, expected: Any) -> None:
    assert value(path) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " a ",
        "a b",
        ".a",
        "a.",
        "a[",
        "a[x]",
        "a[1",
        "a[?(]",
        "a[?(@.k >)]",
        "a[?(@.k)",
        "a['x]",
        "a.f()",
        "a[?(@.x =~ /(/)]",
        "a[?(@.x in [1)]",
        "1+a(",
    ],
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(PathError):
        compile_path(text)
    assert resolve(f"${{{text}}}", scope) is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("n=${workflow.input.n}", "n=7"),
        ("k=${workflow.input.ol[*].k} ${workflow.input.ol[?(@.k > 1)]}", 'k=[1,2] [{"k":2,"s":"y"}]'),
        ("$${${workflow.input.n}}", "${7}"),
        ("${workflow.input.n}${workflow.input.n}", "77"),
        ("x${workflow.input.none}y", "xnully"),
        ("${workflow.input.yes} ${workflow.input.f}", "true 1.5"),
        ("${workflow.input.o} ${workflow.input.l}", "{a={b=[1, 2]}} [10, 20, 30]"),
        ("${workflow.input.${workflow.input.which}}", 7),
        ("$${workflow.input.n}", "${workflow.input.n}"),
        ("a$${x.y}b${workflow.input.n}", "a${x.y}b7"),
        ("$x {y} $", "$x {y} $"),
        ("${workflow.input.n", "${workflow.input.n"),
        ("$${never closed", "$${never closed"),
        ("${nobody.output.x}", None),
        ("", ""),
    ],
)
def test_texts(template: str, expected: Any) -> None:
    assert resolve(template, scope) == expected


def test_any_depth_but_never_keys() -> None:
    template = {"${workflow.input.n}": [{"x": "${workflow.input.n}"}, "${workflow.input.l}"]}
    assert resolve(template, scope) == {"${workflow.input.n}": [{"x": 7}, [10, 20, 30]]}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (1.5, "1.5"),
        (-0.001, "-0.001"),
        (1234567.0, "1234567.0"),
        (1e7, "1.0E7"),
        (1e20, "1.0E20"),
        (-1.25e-7, "-1.25E-7"),
        (12345678901234567890, "12345678901234567890"),
    ],
)
def test_numbers_read_as_in_java(number: float, text: str) -> None:
    assert java_text(number) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_nesting_without_end_is_text() -> None:
    deep = "${" * 5000
    assert resolve(deep, scope) == deep


@given(st.text())
def test_any_text_can_be_parsed_and_resolved(text: str) -> None:
    parse(text)
    resolve(text, scope)


@given(st.text(alphabet="ab.[]()*'\"?@,:0-9 <>=&|!$"))
def test_any_path_compiles_or_is_refused(text: str) -> None:
    try:
        path = compile_path(text)
    except PathError:
        return
    path.find(DATA)


@given(JSON)
def test_values_without_expressions_stay_as_they_are(content: Any) -> None:
    def plain(item: Any) -> bool:
        if isinstance(item, dict):
            return all(plain(inner) for inner in item.values())
        return all(map(plain, item)) if isinstance(item, list) else not (isinstance(item, str) and "${" in item)

    if plain(content):
        assert resolve(content, scope) == content


@given(JSON, st.text(alphabet="abc_-é ü1", min_size=1))
def test_whole_expression_gives_the_native_value(content: Any, key: str) -> None:
    quoted = key.replace("\\", "\\\\").replace("'", "\\'")
    assert resolve(f"${{workflow['{quoted}']}}", lambda _root: {key: content}) == content
