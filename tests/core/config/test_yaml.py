"""YAML that multiplies or nests without end is refused before anything is built from it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from nexus_gateway.core.config.yaml_file import MAX_DEPTH, read_yaml
from nexus_gateway.core.errors import ConfigError

SEVEN_LEVELS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 7)
)
"""Nine to the power of seven entries, half a minute, when aliases were followed."""


def fault(tmp_path: Path, text: str) -> str:
    path = tmp_path / "conf.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_yaml(path)
    return str(raised.value).replace(f"{tmp_path}/", "").replace(f"{tmp_path}\\", "")


def seconds_of_a_refusal(tmp_path: Path, text: str, expected: str) -> float:
    begin = time.process_time()
    assert expected in fault(tmp_path, text)
    return time.process_time() - begin


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    assert len(SEVEN_LEVELS) < 350
    assert seconds_of_a_refusal(tmp_path, SEVEN_LEVELS, "conf.yaml:1: a0 was marked with the anchor &a0") < 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "nt8:\n  symbols: [NQ]\nmt5:\n  symbols: *nq\n",
            "conf.yaml:4: mt5.symbols was the alias *nq, must be written out; copy what &nq marks to this place",
        ),
        (
            "nt8:\n  symbols: &nq [NQ]\nmt5:\n  symbols: *nq\n",
            "conf.yaml:2: nt8.symbols was marked with the anchor &nq, must be plain; "
            "remove &nq and write the value out wherever *nq stands",
        ),
        ("idle: &a yield\n", "conf.yaml:1: idle was marked with the anchor &a"),
        ("idle: &a [*a]\n", "conf.yaml:1: idle was marked with the anchor &a"),
        ("cores:\n- 1\n- *a\n", "conf.yaml:3: cores[1] was the alias *a"),
        ("nt8: {&k idle: yield}\n", "conf.yaml:1: nt8 was marked with the anchor &k"),
        ("nt8: {*k : yield}\n", "conf.yaml:1: nt8 was the alias *k"),
        ("&top\nidle: yield\n", "conf.yaml:1: the file was marked with the anchor &top"),
        ("nt8:\n  <<: *base\n", "conf.yaml:2: nt8.<< was the alias *base"),
        ("nt8:\n  <<: {idle: yield}\n", "conf.yaml:2: nt8.<< was a merge key, must be plain; write its keys out here"),
        ("nt8:\n  <<: [{idle: yield}]\n", "conf.yaml:2: nt8.<< was a merge key"),
    ],
)
def test_anchors_aliases_and_merge_keys_are_refused_by_name(tmp_path: Path, text: str, expected: str) -> None:
    assert fault(tmp_path, text).startswith(expected)


def test_the_marks_of_aliases_are_text_inside_a_value(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("name: S&P 500\nfactor: 2*3\nquoted: ['*a', '&b']\n'<<': x\n", encoding="utf-8")
    assert read_yaml(path).content == {"name": "S&P 500", "factor": "2*3", "quoted": ["*a", "&b"], "<<": "x"}


@pytest.mark.parametrize("levels", [MAX_DEPTH, 1000, 100_000])
@pytest.mark.parametrize(("opening", "leading"), [("[", "x.y: "), ("{a: ", "x.y: "), ("- ", "x.y:\n")])
def test_deep_nesting_is_refused_by_name(tmp_path: Path, levels: int, opening: str, leading: str) -> None:
    expected = f"x.y was nested deeper than {MAX_DEPTH} levels, the most that is allowed; check its indentation"
    assert seconds_of_a_refusal(tmp_path, leading + opening * levels + "1", expected) < 4


def test_the_deepest_nesting_allowed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    lists = MAX_DEPTH - 1  # the mapping at the top is one level
    path.write_text(f"x: {'[' * lists}1{']' * lists}\n", encoding="utf-8")
    value = read_yaml(path).content["x"]
    for _ in range(lists):
        (value,) = value
    assert value == 1
