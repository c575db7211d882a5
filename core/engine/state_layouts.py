"""Reading a state that another version has saved: one converter for each former layout, applied one after the other.

A converter takes the whole state of its layout as plain dicts, lists, numbers and texts, as MessagePack holds it
(decimals are text, enums their values), and returns that of the next layout. It may change the dict that it was given.
It renames, moves and fills in; it never decides what to trade. Once its layout has been released it is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..errors import GatewayError
from .state import STATE_LAYOUT, EngineState

StateDict = dict[str, Any]
Converter = Callable[[StateDict], StateDict]

CONVERTERS: Final[dict[int, Converter]] = {}
"""Former layout -> converter to the next layout. `layout` itself is set by `read_state`."""


class _Layout(Struct):
    layout: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(EngineState)
_layout_decoder = msgspec.msgpack.Decoder(_Layout)


def read_state(data: bytes, converters: Mapping[int, Converter] = CONVERTERS) -> EngineState:
    """The state that `Engine.save` of this version or of a former one wrote.

    Raises: GatewayError when the bytes are damaged, of a newer layout, of one without a converter, or when a converter
    fails or leaves a field that this version does not know.
    """
    try:
        layout = _layout_decoder.decode(data).layout
        if layout == STATE_LAYOUT:
            return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise GatewayError(f"checkpoint cannot be read: {error}; rebuild from the journal's events") from error
    if layout > STATE_LAYOUT:
        raise GatewayError(f"checkpoint has state layout {layout}, this program knows up to {STATE_LAYOUT}")
    return _convert(data, layout, converters)


def _convert(data: bytes, layout: int, converters: Mapping[int, Converter]) -> EngineState:
    try:
        plain = msgspec.msgpack.decode(data)
        for step in range(layout, STATE_LAYOUT):
            if step not in converters:
                raise GatewayError(f"checkpoint has state layout {layout}: there is no converter from {step}")
            plain = converters[step](plain)
            plain["layout"] = step + 1
        state = _decoder.decode(_encoder.encode(plain))
        kept = msgspec.msgpack.decode(_encoder.encode(state))
    except GatewayError:
        raise
    except Exception as error:
        # A converter meets data that its author may not have thought of. The events are still there.
        raise GatewayError(
            f"checkpoint of state layout {layout} cannot be converted: {type(error).__name__}: {error}"
        ) from error
    # The decoder drops keys it does not know and fills in defaults: a forgotten rename would lose a field in silence.
    different = find_difference(plain, kept)
    if different:
        raise GatewayError(f"checkpoint of state layout {layout} is not whole after conversion: {different}")
    return state


def find_difference(plain: object, kept: object, path: str = "state") -> str:
    """Where a state as plain builtins differs from what the decoder kept of it, as text; empty when nowhere."""
    if isinstance(plain, dict) and isinstance(kept, dict):
        for key in (*plain, *kept):
            if key not in kept:
                return f"{path}.{key} is not known"
            if key not in plain:
                return f"{path}.{key} is missing"
            found = find_difference(plain[key], kept[key], f"{path}.{key}")
            if found:
                return found
        return ""
    if isinstance(plain, list) and isinstance(kept, list) and len(plain) == len(kept):
        found_in = (
            find_difference(*pair, f"{path}[{number}]") for number, pair in enumerate(zip(plain, kept, strict=True))
        )
        return next((found for found in found_in if found), "")
    return "" if plain == kept else f"{path} became another value"
