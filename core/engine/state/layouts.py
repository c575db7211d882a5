"""Reading a state that another version has saved: one converter for each former layout, applied one after the other.

A converter takes the whole state of its layout as plain dicts, lists, numbers and texts, as MessagePack holds it
(decimals are text, enums their values), and returns that of the next layout. It may change the dict that it was given.
It renames, moves and fills in; it never decides what to trade. Once its layout has been released it is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from ...errors import GatewayError
from .whole import STATE_LAYOUT, EngineState

StateDict = dict[str, Any]
Converter = Callable[[StateDict], StateDict]

_EXECUTION_OF_4: Final = {
    "order_id": "client_order_id",
    "absent": "missed_snapshots",
    "bust_inferred": "presumed_busted",
}
_ORDER_OF_4: Final = {
    "filled": "cum_qty",
    "reported": "platform_cum_qty",
    "absent": "missed_snapshots",
    "inferred_end": "presumed_ended",
    "missing_confirmed": "qty_mismatch_snapshots",
    "cancels": "cancels_sent",
}
_LEG_OF_4: Final = {
    "adjusted": "external_qty",
    "exit_failures": "exit_attempts",
    "session_ns": "session_opened_ns",
    "leaving": "roll_out",
    "carries": "rolls_over_from",
    "carry_until_ns": "roll_over_until_ns",
    "carried": "roll_over_ended",
}
_PLAN_OF_4: Final = {"carry": "roll_over", "shift": "price_shift"}
_ROUTE_OF_4: Final = {
    "known_before": "reconciled_before",
    "proof_ns": "last_reconciled_ns",
    "unsettled": "unreported_orders",
    "holders": "holding_signals",
    "forgotten_ns": "evicted_until_ns",
}
_KILL_OF_4: Final = {
    "asked_ns": "requested_ns",
    "proof_request": "verifying_request_id",
    "others_ns": "external_cancelled_ns",
}
_STATE_OF_4: Final = {
    "waiting_for": "awaited_platforms",
    "keys": "signals_by_key",
    "seen_keys": "found_keys",
}
_COUNTS_OF_4: Final = {"closed_by_other_hand": "closed_externally", "forgotten_fill": "evicted_fill"}


def _from_4(state: StateDict) -> StateDict:
    """Layout 5: the names of the market (FIX) and of the glossary. `snapshots` of a route, which nothing read, goes."""
    for execution in state["executions"].values():
        _rename(execution, _EXECUTION_OF_4)
    for order in state["orders"].values():
        _rename(order, _ORDER_OF_4)
    for orphan in state["orphans"].values():
        _rename(orphan, {"leg": "target", "since_ns": "found_ns"})
    for signal in state["signals"].values():
        _rename(signal, {"peers": "report_to"})
        for leg in signal["legs"]:
            _rename(leg, _LEG_OF_4)
            if leg["roll_out"] is not None:
                _rename(leg["roll_out"], _PLAN_OF_4)
    for route in state["routes"].values():
        _rename(route, _ROUTE_OF_4)
        del route["snapshots"]
        for position in route["positions"].values():
            _rename(position, {"mismatches": "mismatch_snapshots"})
    for kill in state["kills"].values():
        _rename(kill, _KILL_OF_4)
    _rename(state, _STATE_OF_4)
    _rename(state["counts"], {old: new for old, new in _COUNTS_OF_4.items() if old in state["counts"]})
    return state


def _rename(record: StateDict, names: dict[str, str]) -> None:
    """Rename keys in place, and keep their order, in which counters are listed. Raises: KeyError for a missing one."""
    lacking = names.keys() - record.keys()
    if lacking:
        raise KeyError(*sorted(lacking))
    items = list(record.items())
    record.clear()
    record.update((names.get(key, key), value) for key, value in items)


def _from_5(state: StateDict) -> StateDict:
    """Layout 6: contradictions, snapshots that are owed, what platforms report, overfills, the size of ClOrdIDs."""
    state["settings"] |= {"client_order_id_chars": 21, "close_overfills": False}
    for execution in state["executions"].values():
        execution["restated"] = bool(execution["revision"])
        execution["differing_snapshots"] = 0
        execution["beyond"] = "0"
    for order in state["orders"].values():
        replace = order["replace"] or order
        sizes = order["order"]["quantity"], order["quantity"], replace["quantity"]
        order["written_off_qty"] = "0"
        order["most_qty"] = max(sizes, key=Decimal)
    for route in state["routes"].values():
        route |= {
            "owed_requests": 0,
            "owes_since_ns": 0,
            "overdue_since_ns": 0,
            "contradictions": {},
            "ended_contradictions": {},
        }
        route["flatten_sent_ns"] = 0
        if route["hello"]["capabilities"] is not None:
            route["hello"]["capabilities"] |= {"lists_positions": True, "lists_orders": True, "flatten": False}
        for position in route["positions"].values():
            position |= {"reported": None, "reported_ns": 0, "reported_net": "0", "avg_price": None}
            position |= {"overfilled": "0", "overfilled_ns": 0, "overfill_orders": 0, "overfill_retry_ns": 0}
    for signal in state["signals"].values():
        for leg in signal["legs"]:
            leg["unpriced"] = False
    for kill in state["kills"].values():
        if kill["command"] is not None:
            kill["command"]["unproven"] = False
    return state


def _from_6(state: StateDict) -> StateDict:
    """Layout 7: steady time, latches, protection of a leg, pairs of stop and target, retired accounts."""
    state |= {"wall_offset_ns": 0, "lowest_offset_ns": 0, "clock_stepped": False, "latches": {}}
    state["settings"] |= {"stop_wait_ms": 1_000, "cancel_on_disconnect_ms": None, "await_brackets": False}
    state["limits"] |= {"repeated_entries_latch": False, "max_working_orders": None, "messages_before_ratio": 0}
    state["limits"] |= {"max_working_orders_per_platform": None, "max_traded_notional_usd": None}
    state["limits"] |= {"max_messages_per_fill": None}
    # What was traded today is valued when the next rates arrive. Messages were not counted before.
    traded = [
        key
        for key, execution in state["executions"].items()
        if (execution["client_order_id"] or execution["signal_id"])
        and execution["seen"]
        and execution["ts_event_ns"] >= state["day"]["started_ns"]
    ]
    state["day"] |= {"traded_usd": "0", "traded": {}, "unpriced_executions": dict.fromkeys(traded)}
    state["day"] |= {"fills": {}, "messages": {}, "ratio_alerted": {}}
    for key in traded:
        route = state["executions"][key]["route"]
        state["day"]["fills"][route] = state["day"]["fills"].get(route, 0) + 1
    for execution in state["executions"].values():
        execution["booked_ns"] = execution["ts_event_ns"]
    for order in state["orders"].values():
        order["last_news_ns"] = max(order["sent_ns"], order["acked_ns"], order["last_fill_ns"])
    for route in state["routes"].values():
        closing = (order_id for order_id in route["live"] if _closes_lots(state, state["orders"][order_id]))
        route |= {"retired_ns": 0, "executions_as_of_ns": 0, "live_closing": dict.fromkeys(closing)}
        route["waiting_closes"] = {}  # each link begins with a snapshot, which lists them
        if route["hello"]["capabilities"] is not None:
            route["hello"]["capabilities"] |= {"oco_shrinks": False, "stops_at": "unknown"}
        for position in route["positions"].values():
            position |= {"over_closed_request": 0, "session_open": True, "session_change_ns": 0}
    for kill in state["kills"].values():
        kill |= {"fruitless": 0, "close_retry_ns": 0}
    for signal in state["signals"].values():
        for leg in signal["legs"]:
            leg |= {"fruitless_exits": 0, "exit_alert_ns": 0, "clearing_since_ns": 0, "protect_retry_ns": 0}
            leg |= {"closing_waits": "", "clearing_until_ns": 0}
            leg |= {"unprotected_since_ns": 0, "unprotected_ns": 0, "unprotected_why": ""}
            plan = leg["roll_out"]
            for market in (leg["market"], None if plan is None else plan["market"]):
                if market is not None:
                    market["session_change_ns"] = 0
    return state


def _closes_lots(state: StateDict, order: StateDict) -> bool:
    if order["role"] != "E":
        return bool(order["role"] == "X")
    signal = state["signals"].get(order["signal_id"])
    return signal is not None and bool(signal["signal"]["reduce_only"])


def _from_7(state: StateDict) -> StateDict:
    """Layout 8: regular comparisons outside of the engine, clock ticks that look at what is due alone, and signals that
    become rows of the journal when they have been over for a while.
    """
    state["settings"]["check_ms"] = None
    state["entries_barred"] = ""
    orders = state["orders"]
    for route in state["routes"].values():
        route["unknown_orders"] = {each: None for each in route["live"] if orders[each]["state"] == "unknown"}
        route["active_signals"] = {}
    for signal_id in state["active"]:
        for leg in state["signals"][signal_id]["legs"]:
            if leg["route"] in state["routes"]:
                state["routes"][leg["route"]]["active_signals"][signal_id] = None
    for signal_id, signal in state["signals"].items():
        for leg in signal["legs"]:
            leg["look_again_ns"] = int(signal_id in state["active"])  # long past: the first tick finds the true time
    state["settings"]["finished_after_ms"] = None
    signals = state["signals"]
    done = sorted((signal["done_ns"], signal_id) for signal_id, signal in signals.items() if signal["done_ns"])
    state["over"] = {signal_id: done_ns for done_ns, signal_id in done}
    for signal in signals.values():
        signal["signal"]["enter_by_ns"] = 0
        signal["changed_ns"] = (signal["done_ns"] or signal["received_ns"]) + state["wall_offset_ns"]
    for route in state["routes"].values():
        booked = sorted((state["executions"][key]["booked_ns"], key) for key in route["executions"])
        route["executions"] = {key: None for _, key in booked}
        leads = (state["executions"][key]["ts_event_ns"] - booked_ns for booked_ns, key in booked if booked_ns)
        route["stamp_lead_ns"] = max(0, *leads, 0)
        route |= {"whole_request": True, "whole_compared_ns": route["last_reconciled_ns"]}
        route |= {"finished_until": {}, "finished_markets": {}, "cleared_ns": route["retired_ns"]}
    return state


CONVERTERS: Final[dict[int, Converter]] = {4: _from_4, 5: _from_5, 6: _from_6, 7: _from_7}
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
