"""`python -m tests.mt5_terminal <folder>`: a terminal and its broker, as the folder's stand_in.json describes them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.mt5_terminal.desk import Desk
from tests.mt5_terminal.server import Server

server = Server(Path(sys.argv[1]))
server.serve(Desk(server))
