"""The commands `keys`: who may connect to the gateway, and the keys of a program on another machine.

`core.transport` is imported where it is used: with ZeroMQ and libsodium, all commands would start slower.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ...shm import host
from ..config import GatewayConfig
from ..errors import ConfigError
from .command import ConfigFolder, JsonFlag, RunFolder, explained, load, print_json

if TYPE_CHECKING:
    from ..transport import KeyFolder, KeyRing

_T = TypeVar("_T")
_KeyName = Annotated[str, typer.Argument(help="nexus.NAME, operator.NAME or adapter.PLATFORM.NAME.")]
_KeyText = Annotated[str, typer.Argument(help="A public key, as the other side shows it.")]
_Folder = Annotated[Path, typer.Argument(help="The folder of the program's keys, of its own.")]


def add_commands(app: typer.Typer) -> None:
    """Put `keys` on the command line."""
    keys = typer.Typer(no_args_is_help=True, help="Keys of the order ports: list, make, allow, remove, trust.")
    keys.command("list")(keys_list)
    keys.command("make")(keys_make)
    keys.command("allow")(keys_allow)
    keys.command("remove")(keys_remove)
    keys.command("trust")(keys_trust)
    app.add_typer(keys, name="keys")


def keys_list(config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False) -> None:
    """Show the gateway's public key, and who may connect. On the gateway's machine."""
    from ..transport import key_text

    with explained():
        folder, ring = _open(load(config, run_folder))
    allowed = {proof.name: proof.key for proof in ring.proofs}
    if as_json:
        print_json({"gateway": key_text(folder.own.public), "allowed": allowed, "folder": str(folder.folder)})
        return
    typer.echo(f"gateway  {key_text(folder.own.public)}   (in {folder.folder})")
    for name, text in sorted(allowed.items()):
        typer.echo(f"{name}  {text}   {'made here' if name in folder.names else 'another machine'}")


def keys_make(folder: _Folder, as_json: JsonFlag = False) -> None:
    """Make the keys of a program on this machine, whose gateway runs on another one. The secret key never leaves it."""
    from ..transport import key_text, make_client_keys

    with explained():
        public = key_text(make_client_keys(folder.expanduser()))
    if as_json:
        print_json({"folder": str(folder), "public": public})
        return
    typer.echo(f"{folder}: made, or there already. On the gateway's machine:")
    typer.echo(f"  nexus-gateway keys allow nexus.NAME {public}")


def keys_allow(
    name: _KeyName,
    key: _KeyText,
    config: ConfigFolder = None,
    run_folder: RunFolder = None,
    as_json: JsonFlag = False,
) -> None:
    """Let the holder of a key connect. On the gateway's machine; a running gateway obeys within half a second."""
    from ..transport import ALLOWED_FOLDER, key_text, parse_key, parse_key_name, write_public

    with explained():
        chosen = load(config, run_folder)
        folder, ring = _open(chosen)
        public = _checked(lambda: parse_key(key))
        proof = _checked(lambda: parse_key_name(name))
        if proof.platform and proof.platform not in chosen.platforms:
            raise ConfigError(
                f"platform was {proof.platform!r}, which platform_configs.yaml does not list; add it there"
            )
        if name not in folder.names and chosen.keys_path.is_relative_to(chosen.run_path):
            _check_lasting(chosen)
        other = ring.find(public)
        if other is not None and other.name != name:
            raise ConfigError(f"this key is allowed as {other.name}; a key proves one thing only: make another one")
        path = folder.folder / ALLOWED_FOLDER / f"{name}.key"
        if path.exists() and other is None:
            raise ConfigError(
                f"{name} is there with another key; take that away first: nexus-gateway keys remove {name}"
            )
        try:
            write_public(path, public)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    own = key_text(folder.own.public)
    if as_json:
        print_json({"allowed": name, "gateway": own})
        return
    typer.echo(f"{name} may connect. On its machine:")
    typer.echo(f"  nexus-gateway keys trust FOLDER {own}")


def keys_remove(
    name: _KeyName, config: ConfigFolder = None, run_folder: RunFolder = None, as_json: JsonFlag = False
) -> None:
    """Take a key away: a running gateway closes its connections within half a second, and lets it in no more."""
    from ..transport import ALLOWED_FOLDER, parse_key_name

    with explained():
        chosen = load(config, run_folder)
        proof = _checked(lambda: parse_key_name(name))
        path = chosen.keys_path / ALLOWED_FOLDER / f"{proof.name}.key"
        try:
            path.unlink()
        except FileNotFoundError:
            raise ConfigError(f"{name} is not allowed; see: nexus-gateway keys list") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be removed: {error.strerror}") from error
    if as_json:
        print_json({"removed": name})
    else:
        typer.echo(f"{name} may not connect any more")


def keys_trust(folder: _Folder, key: _KeyText, as_json: JsonFlag = False) -> None:
    """Name the gateway that a program on this machine connects to, by the key that it has to prove."""
    from ..transport import parse_key, trust_gateway

    with explained():
        public = _checked(lambda: parse_key(key))
        trust_gateway(folder.expanduser(), public)
    if as_json:
        print_json({"folder": str(folder), "gateway": key})
    else:
        typer.echo(f"{folder}: its program connects to the gateway of this key, and to no other")


def _open(config: GatewayConfig) -> tuple[KeyFolder, KeyRing]:
    from ..transport import KeyFolder, KeyRing

    def warn(text: str) -> None:
        typer.echo(text, err=True)

    folder = KeyFolder(config.keys_path, config.platforms, warn)
    ring = KeyRing(config.keys_path, warn)
    ring.reload()
    return folder, ring


def _check_lasting(config: GatewayConfig) -> None:
    if config.run_path.is_relative_to("/dev/shm"):
        raise ConfigError(
            f"the gateway's keys are in {config.keys_path}, which is memory: after a reboot it would have another key, "
            f"and the other machine would not trust it; write orders.keys_folder: {host.local_data_folder() / 'keys'} "
            "into gateway_config.yaml, and restart the gateway"
        )


def _checked(parse: Callable[[], _T]) -> _T:
    try:
        return parse()
    except ValueError as error:
        raise ConfigError(str(error)) from error
