"""Which accounts of a platform may be traded: the part of its `settings` that adapter and gateway both read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from ..bounds import PLAIN_TEXT

_PAPER: Final = "PAPER-"


def paper_account_name(platform: str) -> str:
    """Return the name of a platform's simulated account, which cannot be mistaken for a real one."""
    return _PAPER + platform


AccountName = Annotated[str, Meta(pattern=PLAIN_TEXT, min_length=1, max_length=64)]


class TradingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a platform's `settings` about its accounts.

    Attributes:
        orders: `platform` = real orders on an account in `accounts`; `external` = the same, by an adapter program of
            yours that says hello to the gateway itself, while the adapter of the entry supplies market data; `paper` =
            the platform's live data, simulated fills; `none` = market data only. None = the adapter's own default,
            `paper` or `none`.
        accounts: the accounts that may be traded, as the platform names them; a hello of another one is refused.
    """

    orders: Literal["none", "paper", "platform", "external"] | None = None
    accounts: tuple[AccountName, ...] = ()

    def __post_init__(self) -> None:
        if self.orders in ("platform", "external") and not self.accounts:
            raise ValueError("accounts was empty, real orders need the accounts that may be traded; list their names")
        simulated = [name for name in self.accounts if name.startswith(_PAPER)]
        if simulated:
            raise ValueError(
                f"accounts had {simulated[0]!r}, must name real accounts: {_PAPER}... is the gateway's own simulation; "
                "remove it, for simulated fills write orders: paper"
            )

    def refuse_account(self, platform: str, account: str) -> str:
        """Return why an adapter may not trade this account, with the cure; empty when it may."""
        paper = paper_account_name(platform)
        where = f"platform_configs.yaml: {platform}.settings"
        cure = "for real orders write orders: platform there (external for an adapter program of your own) and accounts"
        if self.orders == "none":
            return f"account was {account!r}, but {where}.orders is none, market data only; {cure}"
        if self.orders in ("paper", None):
            stands = "is paper" if self.orders else "is not set"
            return (
                ""
                if account == paper
                else f"account was {account!r}, must be {paper!r}: {where}.orders {stands}; {cure}"
            )
        if account in self.accounts:
            return ""
        known = ", ".join(repr(name) for name in self.accounts)
        return (
            f"account was {account!r}, must be one of {where}.accounts: {known}; log in to one of them, or add it there"
        )


def pick_trading_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those keys of a platform's `settings` that `TradingSettings` has."""
    return {key: value for key, value in settings.items() if key in TradingSettings.__struct_fields__}
