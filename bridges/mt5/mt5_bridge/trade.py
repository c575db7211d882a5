"""The objects that belong to one account, for as long as one connection to the terminal lasts."""

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
    """Orders of the account that the terminal is logged in to; made again with each connection to the terminal.

    Attributes:
        money: newest `account` message that was sent.
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
        """Raises OSError: the file of ids."""
        ids = OrderIds(config.ids_file, hedging=account.hedging)
        self.describer = Describer(config.platform, account, clock, ids, names)
        self.monitor = Monitor(terminal, clock, ids, self.describer, config.history_days * DAY_S, session.tell)
        self.desk = Desk(
            terminal,
            clock,
            ids,
            self.describer,
            self.monitor,
            config.deviation_points,
            session.tell,
            session.log,
        )
        self.money: Body = {}
