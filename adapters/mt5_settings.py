"""What the two MetaTrader 5 platforms can be told in `settings` (docs/platforms/mt5.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .bridge_settings import BridgeSettings

MAX_SYMBOL_CHARACTERS = 29
"""The MetaTrader5 package refuses longer symbols."""

Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]


class Mt5Settings(BridgeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a MetaTrader 5 platform. Its one account is the login: write it in `account`.

    Attributes:
        server, company: of the account, as the terminal shows them; another one is refused. None = any.
        mode: the account's; another one is refused. None = either. Never assume it from the country.
        currency: the account's; another one is refused. None = any.
    """

    server: str | None = None
    company: str | None = None
    mode: Literal["netting", "hedging"] | None = None
    currency: Currency | None = None


class Mt5GlobalSettings(Mt5Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a global broker's terminal. `suffix`: what this broker appends to the names of its CFDs and pairs."""

    suffix: Annotated[str, Meta(max_length=12)] = ""


class Mt5BrazilSettings(Mt5Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Brazilian broker's terminal. `quotes_outside_session`: let bid and ask of closed hours through,
    which B3's feeds fill with nonsense; for rehearsals alone.
    """

    currency: Currency | None = "BRL"
    quotes_outside_session: bool = False
