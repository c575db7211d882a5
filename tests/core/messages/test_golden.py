"""The wire form of each message kind is frozen in files: an accidental change of the protocol fails here."""

from __future__ import annotations

import typing

import pytest
from nexus_gateway.core import messages as m

from tests.golden.examples import EXAMPLES, FOLDER, envelope, kind
from tests.golden.fields import PAGE, write_page

EVERY_KIND = {str(cls.__struct_config__.tag) for cls in typing.get_args(m.Message)}


def test_every_kind_has_an_example_and_a_file():
    assert {kind(example) for example in EXAMPLES} == EVERY_KIND
    assert {path.stem for path in FOLDER.glob("*.json")} == EVERY_KIND
    assert {path.stem for path in FOLDER.glob("*.hex")} == EVERY_KIND


@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_bytes_are_those_of_the_file(example):
    golden = bytes.fromhex((FOLDER / f"{kind(example)}.hex").read_text())
    assert m.encode(envelope(example)) == golden
    assert m.decode(golden) == envelope(example)


@pytest.mark.parametrize("name", ["signal", "hello", "report"])
@pytest.mark.parametrize("version", range(1, m.PROTOCOL_VERSION))
def test_messages_of_former_versions_are_refused_and_both_versions_named(version, name):
    golden = bytes.fromhex((FOLDER.parent / f"version_{version}" / f"{name}.hex").read_text())
    with pytest.raises(
        m.MessageError, match=f"version was {version}, this side speaks {m.PROTOCOL_VERSION}"
    ) as refused:
        m.decode(golden)
    assert refused.value.code is m.RejectCode.WRONG_VERSION


@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_json_is_that_of_the_file(example):
    golden = (FOLDER / f"{kind(example)}.json").read_bytes()
    assert m.encode_json(envelope(example)) + b"\n" == golden
    assert m.decode_json(golden) == envelope(example)


def test_the_manual_names_every_field_as_the_types_have_it():
    assert PAGE.read_text(encoding="utf-8") == write_page(), "run: python -m tests.golden.fields"
