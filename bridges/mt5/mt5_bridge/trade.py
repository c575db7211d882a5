"""Create the order objects of one account; they live as long as one connection to the terminal."""

from __future__ import annotations

from .commands import Desk
from .config import Config
from .constants import DAY_S
from .descriptions import Describer, SymbolNames
from .fields import Body
from .monitor import Monitor
from .order_ids import OrderIds
from .server_clock import ServerClock
from .session import Session
from .terminal import Account, Terminal


class Trade:
    """Order objects of the account that the terminal is logged in to.

    Attributes:
        money: the last `account` message that was sent.
    """

    def __init__(
        self,
        config: Config,
        terminal: Terminal,
        account: Account,
        clock: ServerClock,
        names: SymbolNames,
        session: Session,
    ) -> None:
        """Raises OSError: the ids file cannot be read."""
        ids = OrderIds(config.ids_file, hedging=account.hedging)
        self.describer = Describer(config.platform, account, clock, ids, names)
        self.monitor = Monitor(terminal, clock, ids, self.describer, config.history_days * DAY_S, session.send)
        self.desk = Desk(
            terminal,
            clock,
            ids,
            self.describer,
            self.monitor,
            config.deviation_points,
            session.send,
            session.log,
        )
        self.money: Body = {}
