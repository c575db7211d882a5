"""The settings that all platforms share; the others belong to the adapter's own class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from ..core.config import convert_settings
from .paper.settings import PaperSettings
from .session import SessionPolicy


class SharedSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of `settings` that every platform has.

    Attributes:
        orders: `platform` = real orders on an account in `accounts`; `paper` = the platform's live data, simulated
            fills; `none` = market data only. None = the adapter's own default, which is never `platform`.
        accounts: the accounts that may be traded, as the platform names them; orders for others are refused.
        paper: the simulated account.
        session: reconnect policy.
    """

    orders: Literal["none", "paper", "platform"] | None = None
    accounts: tuple[str, ...] = ()
    paper: PaperSettings = PaperSettings()
    session: SessionPolicy = SessionPolicy()

    def __post_init__(self) -> None:
        if self.orders == "platform" and not self.accounts:
            raise ValueError("accounts was empty, real orders need the accounts that may be traded; list their names")


def split_settings(settings: Mapping[str, Any], where: str) -> tuple[SharedSettings, dict[str, Any]]:
    """Split `settings` into the shared ones and those of the adapter's own class.

    Raises:
        ConfigError: a shared setting is wrong; `where` begins the message.
    """
    names = SharedSettings.__struct_fields__
    shared = {key: value for key, value in settings.items() if key in names}
    own = {key: value for key, value in settings.items() if key not in names}
    return convert_settings(SharedSettings, shared, where), own
