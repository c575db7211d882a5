"""Each check runs once for each rig; one that does not apply to an adapter is skipped with the rig's reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.gateway_peer import GatewayPeer
from tests.conformance.rig import Rig
from tests.conformance.rigs import RIGS

DEEP = 500.0
"""Quoted size that fills any order of the suite at once."""


@pytest.fixture(scope="module", params=RIGS, ids=lambda each: each.NAME)
def rig_class(request: pytest.FixtureRequest) -> type[Rig]:
    return request.param


@pytest.fixture(autouse=True)
def applicable(request: pytest.FixtureRequest, rig_class: type[Rig]) -> None:
    number = re.match(r"test_([a-z]\d\d)", request.node.name)
    assert number is not None, "a check has a number: test_o01_..."
    reason = rig_class.NOT_APPLICABLE.get(number.group(1))
    if reason is not None:
        pytest.skip(reason)


def _short_folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("c")  # the path of a socket file must stay below some 100 bytes


@pytest.fixture
def make_rig(rig_class: type[Rig], tmp_path_factory: pytest.TempPathFactory):
    """Makes a rig of the test's own, with these settings; nothing is started."""
    made = []

    def make(**settings: object) -> Rig:
        made.append(rig_class(_short_folder(tmp_path_factory), **settings))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture(scope="module")
def shared_rig(rig_class: type[Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = rig_class(_short_folder(tmp_path_factory))
    rig.go()
    yield rig
    rig.close()


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    """A running adapter on a netting account, with a fresh market; other checks of the file have used it before."""
    assert shared_rig.is_running
    shared_rig.quote(18000, 18000.25, DEEP, DEEP)
    shared_rig.gateway.listen(0.05)
    shared_rig.gateway.until(lambda: shared_rig.gateway.sessions == 1, "an open link")
    shared_rig.gateway.forget()
    return shared_rig


@pytest.fixture
def gateway(rig: Rig) -> GatewayPeer:
    return rig.gateway
