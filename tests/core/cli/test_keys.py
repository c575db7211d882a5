"""The commands `keys`: a program of another machine is let in, and thrown out, without a secret leaving its machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from nexus_gateway.core.cli.app import app
from nexus_gateway.core.config import PLATFORM_KEYS, load_config
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.messages import Role
from nexus_gateway.core.transport import KeyRing, check_host, make_client_keys, read_client_keys
from nexus_gateway.core.transport.keys import Proof
from typer.testing import CliRunner

from tests.support.links import Ends, nexus_hello


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    settings = {
        "run_folder": str(tmp_path / "run"),
        "orders": {"keys_folder": str(tmp_path / "gateway-keys"), "journal": str(tmp_path / "orders.sqlite")},
    }
    (folder / "gateway_config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_nexus_of_another_machine_is_let_in_and_taken_away_again(tmp_path: Path, config: Path) -> None:
    mine = tmp_path / "nexus-keys"
    public = json.loads(run("keys", "make", mine, "--json"))["public"]
    assert run("keys", "make", mine).count(public) == 1, "a second time shows the same"
    gateway = json.loads(run("keys", "allow", "nexus.laptop", public, "-c", config, "--json"))["gateway"]
    run("keys", "trust", mine, gateway)
    assert "another machine" in run("keys", "list", "-c", config)
    keys = load_config(config).keys_path
    ends = Ends(["tcp://127.0.0.1:0"], keys=keys)
    try:
        client = ends.client(nexus_hello(), keys=mine)
        ends.until(lambda: client.is_up)
        assert ends.events[0].key == "nexus.laptop"  # type: ignore[union-attr]  # it is a PeerUp
        run("keys", "remove", "nexus.laptop", "-c", config)
        assert [proof.name for proof in ends.listener.cut_removed()] == ["nexus.laptop"]
    finally:
        ends.close()
    secret = read_client_keys(mine).own.secret
    assert not any(secret.hex() in path.read_text() for path in keys.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("keys", "allow", "boss", "0" * 64), "must be nexus, operator or adapter.PLATFORM"),
        (("keys", "allow", "../nexus", "0" * 64), "must be nexus, operator or adapter.PLATFORM"),
        (("keys", "allow", "nexus.a", "zz"), "must be 64 hexadecimal digits"),
        (("keys", "allow", "adapter.unknown", "0" * 64), "platform_configs.yaml does not list"),
        (("keys", "remove", "nexus.nobody"), "is not allowed"),
        (("keys", "remove", "../../x"), "must be nexus"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(config: Path, arguments: tuple[str, ...], text: str) -> None:
    assert text in run(*arguments, "-c", config, code=2).replace("\n", " ")


def test_a_key_proves_one_thing_and_a_name_has_one_key(tmp_path: Path, config: Path) -> None:
    one, two = make_client_keys(tmp_path / "one").hex(), make_client_keys(tmp_path / "two").hex()
    run("keys", "allow", "nexus.one", one, "-c", config)
    run("keys", "allow", "nexus.one", one, "-c", config)
    assert "a key proves one thing only" in run("keys", "allow", "operator.one", one, "-c", config, code=2)
    assert "with another key" in run("keys", "allow", "nexus.one", two, "-c", config, code=2)


def test_trust_needs_a_key_of_ones_own(tmp_path: Path) -> None:
    assert "make one first" in run("keys", "trust", tmp_path, "0" * 64, code=2).replace("\n", " ")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "gateway.example", "::"])
def test_another_host_than_loopback_needs_the_key_of_another_machine(host: str) -> None:
    own = ("nexus", "operator", *(f"adapter.{each}" for each in PLATFORM_KEYS))
    local = [Proof("nexus", Role.NEXUS), Proof("operator", Role.ADMIN)]
    with pytest.raises(ConfigError, match="nexus-gateway keys allow"):
        check_host(host, local, own)
    check_host(host, [*local, Proof("nexus.laptop", Role.NEXUS)], own)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.0.1", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    check_host(host, [], [])


def test_files_that_are_no_keys_are_named_and_the_others_count(tmp_path: Path) -> None:
    warned: list[str] = []
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    good = make_client_keys(tmp_path / "good")
    (allowed / "nexus.key").write_bytes((tmp_path / "good" / "own.key").read_bytes())
    (allowed / "nexus.copy.key").write_bytes((tmp_path / "good" / "own.key").read_bytes())
    (allowed / "someone.key").write_bytes((tmp_path / "good" / "own.key").read_bytes())
    (allowed / "operator.key").write_text("nothing")
    ring = KeyRing(tmp_path, warned.append)
    ring.reload()
    assert [proof.name for proof in ring.proofs] == ["nexus.copy"]
    assert ring.find(good) is not None
    assert len(warned) == 3
    ring.reload()
    assert len(warned) == 3, "said once, until the folder changes"
