"""Messages that open and keep a session, and the capabilities of the platform behind it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from ..bounds import PLAIN_TEXT
from .codes import RejectCode
from .fields import (
    AccountName,
    Contract,
    Count,
    Currency,
    Name,
    OptionalPlatform,
    Sequence,
    Symbol,
    Text,
    TimeNs,
    check_distance,
)
from .terms import AccountMode, KillLevel, OrderType, Role, StopPlace, TimeInForce


class Capabilities(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Capabilities of a platform. An order that needs a missing one is refused with a code, never converted.

    `replace`: changes a working order in place; without `replace_quantity` only its prices. `brackets`: keeps stop loss
    and take profit with the entry. `oco`: cancels the sibling itself. `lists_positions`, `lists_orders`,
    `executions_history`: its snapshots list positions, working orders and past executions; what it cannot list proves
    nothing by being absent. `flatten`: closes all positions of an account itself (`Flatten`). `oco_shrinks`: a partial
    fill of one order of a pair makes the other one smaller at the platform. `stops_at`: where a working stop lives.
    """

    order_types: tuple[OrderType, ...]
    times_in_force: tuple[TimeInForce, ...]
    replace: bool = False
    replace_quantity: bool = True
    brackets: bool = False
    oco: bool = False
    reduce_only: bool = False
    close_by_ticket: bool = False
    executions_history: bool = True
    lists_positions: bool = True
    lists_orders: bool = True
    flatten: bool = False
    oco_shrinks: bool = False
    stops_at: StopPlace = StopPlace.UNKNOWN


class Instrument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A symbol as the platform describes it; compared with the catalog before the first order."""

    symbol: Symbol
    platform_symbol: Name
    contract: Contract = ""
    tick_size: Decimal | None = None
    lot_step: Decimal | None = None
    point_value: Decimal | None = None
    currency: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=5)] = ""
    expiry_ns: TimeNs = 0

    def find_fault(self) -> str:
        """Return which of its numbers cannot be true, with value and limit; empty when all can.

        Not refused when it is decoded, since old journals may hold such a hello: whoever receives it asks.
        """
        for name in ("tick_size", "lot_step", "point_value"):
            try:
                check_distance(f"{name} of {self.symbol}", getattr(self, name))
            except ValueError as error:
                return str(error)
        return ""


class Hello(Struct, tag="hello", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First message of a session, from an adapter, NEXUS or an operator's command. `boot_id`: new at each restart of
    the sender. `token`: always empty; journals of former versions hold it. A secret in a message is refused.
    """

    role: Role
    name: Name
    boot_id: Name
    platform: OptionalPlatform = ""
    account: AccountName = ""
    account_mode: AccountMode = AccountMode.NETTING
    account_currency: Currency = "USD"
    capabilities: Capabilities | None = None
    instruments: Annotated[tuple[Instrument, ...], Meta(max_length=500)] = ()
    token: Annotated[str, Meta(max_length=0)] = ""
    last_seq_received: Sequence = 0

    def __post_init__(self) -> None:
        if self.role is Role.ADAPTER and (not self.platform or self.capabilities is None):
            raise ValueError("an adapter's hello needs its platform and its capabilities")


class Welcome(Struct, tag="welcome", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway's answer to a hello. `accepted` False: no session is opened, for the reason in `code`."""

    accepted: bool
    gateway_boot_id: Name
    stage: Count
    kill_level: KillLevel
    heartbeat_ms: Count
    last_seq_received: Sequence = 0
    code: RejectCode = RejectCode.NONE
    text: Text = ""


class Heartbeat(Struct, tag="heartbeat", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sign of life, with both sequence numbers, which show a connection that swallows messages.

    `platform_up`: whether the adapter's own link to its platform is up. `last_data_ns`: time of its newest market data,
    UTC ns.
    """

    last_seq_sent: Sequence
    last_seq_received: Sequence
    platform_up: bool = True
    last_data_ns: TimeNs = 0
