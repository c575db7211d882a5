"""The settings that all platforms share; the others belong to the adapter's own class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.config import TradingSettings, convert_settings
from .orders.own_limits import LimitSettings
from .paper.settings import PaperSettings
from .session import SessionPolicy


class SharedSettings(TradingSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of `settings` that every platform has: `orders` and `accounts`, which the gateway reads too, and these.

    Attributes:
        limits: the adapter's own limits.
        paper: the simulated account.
        session: reconnect policy.
    """

    limits: LimitSettings = LimitSettings()
    paper: PaperSettings = PaperSettings()
    session: SessionPolicy = SessionPolicy()


def split_settings(settings: Mapping[str, Any], where: str) -> tuple[SharedSettings, dict[str, Any]]:
    """Split `settings` into the shared ones and those of the adapter's own class.

    Raises:
        ConfigError: a shared setting is wrong; `where` begins the message.
    """
    names = SharedSettings.__struct_fields__
    shared = {key: value for key, value in settings.items() if key in names}
    own = {key: value for key, value in settings.items() if key not in names}
    return convert_settings(SharedSettings, shared, where), own
