"""Build `challenge` and `hello`, the bridge's messages before and at the login."""

from __future__ import annotations

import time

from .constants import PROGRAM, VERSION
from .fields import Body
from .terminal import Account, Fitness


def make_challenge(nonce: str, platform: str, boot_id: str) -> Body:
    """`challenge`: the first message on each connection."""
    return {
        "type": "challenge",
        "nonce": nonce,
        "platform": platform,
        "bridge": PROGRAM,
        "bridge_version": VERSION,
        "boot_id": boot_id,
    }


def make_hello(proof: str, login: Body, received_ns: int, account: Account, fitness: Fitness, details: Body) -> Body:
    """`hello`: the answer to a valid login, received at `received_ns`. `details` are added to the account's."""
    return {
        "type": "hello",
        "proof": proof,
        "platform_version": f"MetaTrader 5 build {account.build}",
        "accounts": [_describe_account(account)],
        "capabilities": _capabilities(account),
        "data_up": fitness.data_up,
        "orders_up": fitness.orders_up,
        "login_sent_ns": login["sent_ns"],
        "login_received_ns": received_ns,
        "sent_ns": time.time_ns(),
        "text": fitness.text[:512],
        "details": {**account.details, **details},
    }


def _describe_account(account: Account) -> Body:
    return {
        "name": account.name,
        "mode": "hedging" if account.hedging else "netting",
        "currency": account.currency,
        "simulated": account.simulated,
    }


def _capabilities(account: Account) -> Body:
    """Capabilities of the account. Netting has one stop for a whole position, so no brackets of single orders."""
    return {
        "order_types": ["market", "limit", "stop", "stop_limit"],
        "times_in_force": ["day", "gtc", "ioc", "fok", "gtd"],
        "replace": True,
        "replace_quantity": False,
        "brackets": account.hedging,
        "oco": False,
        "reduce_only": False,
        "close_by_ticket": account.hedging,
        "executions_history": True,
    }
