"""One example of each message kind; `python -m tests.golden.examples` writes the golden files anew.

The files are the protocol's memory: a change that alters one of them needs a new protocol version.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from msgspec import structs
from nexus_gateway.core import messages as m

FOLDER = Path(__file__).parent / "messages"
T0 = 1_760_000_000_000_000_000
KEY = m.signal_key("nexus-000042")
ENTRY = m.client_order_id(KEY, 0, m.OrderRole.ENTRY, 0)
STOP = m.client_order_id(KEY, 0, m.OrderRole.STOP_LOSS, 0)

FILL = m.Fill(
    platform="mt5",
    account="5001",
    exec_id="D-1",
    client_order_id=ENTRY,
    symbol="NQ",
    side=m.Side.BUY,
    quantity=Decimal("0.10"),
    price=Decimal("21000.25"),
    ts_event_ns=T0 + 5,
    platform_order_id="991",
    contract="NAS100",
    position_ticket="771",
    fee=Decimal("0.35"),
    fee_currency="USD",
)
POSITIONS = m.Positions(
    platform="mt5",
    account="5001",
    rows=(m.Position(symbol="NQ", quantity=Decimal("-0.10"), avg_price=Decimal("21000.25"), ticket="771"),),
    as_of_ns=T0,
)
WORKING = m.WorkingOrders(
    platform="mt5",
    account="5001",
    rows=(
        m.WorkingOrder(
            client_order_id=STOP,
            symbol="NQ",
            side=m.Side.SELL,
            state=m.LegState.WORKING,
            quantity=Decimal("0.10"),
            filled=Decimal("0"),
            platform_order_id="992",
            order_type=m.OrderType.STOP,
            stop_price=Decimal("20950"),
        ),
    ),
    as_of_ns=T0,
)
EXECUTIONS = m.Executions(platform="mt5", account="5001", rows=(FILL,), from_ns=T0 - 10, as_of_ns=T0)
FUNDS = m.Account(
    platform="mt5",
    account="5001",
    currency="USD",
    balance=Decimal("10000"),
    equity=Decimal("10012.50"),
    day_start_equity=Decimal("10000"),
    as_of_ns=T0,
)
CAPABILITIES = m.Capabilities(
    order_types=(m.OrderType.MARKET, m.OrderType.LIMIT, m.OrderType.STOP, m.OrderType.STOP_LIMIT),
    times_in_force=(m.TimeInForce.DAY, m.TimeInForce.GTC),
    replace=True,
    brackets=True,
    close_by_ticket=True,
    lists_orders=False,
    flatten=True,
)
CONTRADICTION = m.Contradiction(
    kind=m.ContradictionKind.WRONG_SIDE,
    platform="mt5",
    account="5001",
    symbol="NQ",
    said="sell 0.10 NQ at 21000.25",
    expected="a buy, as its order is",
    barred="nothing is sent for NQ on this account, stops and closing orders included",
    ends="a complete snapshot agrees with it or withdraws it, or `acknowledge NQ --holds LOTS --platform mt5`",
    exec_id="D-2",
    client_order_id=ENTRY,
    since_ns=T0 + 6,
)
LEG = m.LegReport(
    leg=0,
    platform="mt5",
    account="5001",
    client_order_id=ENTRY,
    side=m.Side.BUY,
    state=m.LegState.FILLED,
    quantity=Decimal("0.10"),
    filled=Decimal("0.10"),
    open_quantity=Decimal("0.10"),
    avg_price=Decimal("21000.25"),
    slippage_points=Decimal("0.25"),
    notional_usd=Decimal("2100.025"),
    realized_usd=Decimal("0"),
    fees_usd=Decimal("0.35"),
    missing_fills=Decimal("0"),
    protection=m.Protection.PLATFORM,
    code=m.RejectCode.NONE,
    text="",
    sent_ns=T0 + 1,
    acked_ns=T0 + 2,
    first_fill_ns=T0 + 5,
    last_fill_ns=T0 + 5,
)

EXAMPLES: tuple[m.Message, ...] = (
    m.Signal(
        signal_id="nexus-000042",
        symbol="NQ",
        side=m.Side.BUY,
        created_ns=T0,
        targets=(
            m.Target(
                platform="mt5",
                bracket=m.Bracket(stop_distance=Decimal("50.5"), take_profit_distance=Decimal("99.75")),
            ),
            m.Target(platform="nt8", account="Sim101", quantity=Decimal(1)),
        ),
        risk_usd=Decimal("50"),
        order_type=m.OrderType.LIMIT,
        limit_price=Decimal("21000.25"),
        time_in_force=m.TimeInForce.GTD,
        good_till_ns=T0 + 60,
        bracket=m.Bracket(stop_loss=Decimal("20950"), take_profit=Decimal("21100")),
        policy=m.FanOut(kind=m.FanOutKind.QUORUM, quorum=1, decide_within_ms=5000),
        tick_ns=T0 - 1,
        strategy="opening range",
    ),
    m.SignalCancel(signal_id="nexus-000042", platform="nt8"),
    m.SignalReplace(signal_id="nexus-000042", limit_price=Decimal("21000.50")),
    m.SignalClose(signal_id="nexus-000042"),
    m.Report(
        signal_id="nexus-000042",
        symbol="NQ",
        side=m.Side.BUY,
        state=m.SignalState.FILLED,
        revision=3,
        code=m.RejectCode.NONE,
        text="",
        quantity=Decimal("0.10"),
        filled=Decimal("0.10"),
        avg_price=Decimal("21000.25"),
        avg_price_usd=Decimal("21000.25"),
        realized_usd=Decimal("0"),
        fees_usd=Decimal("0.35"),
        residual_quantity=Decimal("0.10"),
        residual_usd=Decimal("2100.025"),
        unknown_legs=0,
        duplicate=False,
        legs=(LEG,),
        received_ns=T0,
        changed_ns=T0 + 5,
        contradictions=(CONTRADICTION,),
    ),
    m.Order(
        client_order_id=ENTRY,
        platform="mt5",
        account="5001",
        symbol="NQ",
        contract="NAS100",
        side=m.Side.BUY,
        quantity=Decimal("0.10"),
        order_type=m.OrderType.STOP_LIMIT,
        limit_price=Decimal("21001"),
        stop_price=Decimal("21000.50"),
        time_in_force=m.TimeInForce.GTC,
        stop_loss=Decimal("20950"),
        take_profit=Decimal("21100"),
        not_after_ns=T0 + 1_000_000_000,
    ),
    m.Cancel(client_order_id=ENTRY, platform="mt5", account="5001", symbol="NQ", platform_order_id="991"),
    m.Replace(
        client_order_id=ENTRY,
        platform="mt5",
        account="5001",
        symbol="NQ",
        revision=1,
        quantity=Decimal("0.10"),
        limit_price=Decimal("21000.75"),
    ),
    m.Flatten(request_id=8, platform="mt5", account="5001", not_after_ns=T0 + 1_000_000_000),
    m.OrderUpdate(
        client_order_id=ENTRY,
        platform="mt5",
        account="5001",
        symbol="NQ",
        side=m.Side.BUY,
        state=m.LegState.WORKING,
        quantity=Decimal("0.10"),
        filled=Decimal("0"),
        platform_order_id="991",
        order_type=m.OrderType.LIMIT,
        limit_price=Decimal("21000.25"),
        ts_event_ns=T0 + 3,
    ),
    FILL,
    m.Correction(
        platform="mt5",
        account="5001",
        exec_id="D-1",
        kind=m.CorrectionKind.CORRECT,
        revision=1,
        quantity=Decimal("0.10"),
        price=Decimal("21000.50"),
    ),
    m.Reject(
        code=m.RejectCode.MAX_SIZE,
        text="max_size: was 2, limit 1 at stage 1; lower the size or promote the stage",
        signal_id="nexus-000042",
        platform="mt5",
        measured="2",
        limit="1",
        stage=1,
    ),
    POSITIONS,
    WORKING,
    EXECUTIONS,
    FUNDS,
    m.AccountState(
        platform="mt5",
        account="5001",
        linked=True,
        ready=False,
        overdue_since_ns=T0 + 7,
        reconciled_ns=T0,
        positions=(
            m.PositionState(
                symbol="NQ",
                quantity=Decimal("0.10"),
                reported=Decimal("-0.10"),
                agrees=False,
                acknowledged=True,
                avg_price=Decimal("21000.25"),
                contract="NAS100",
                reported_ns=T0 + 6,
            ),
            m.PositionState(symbol="ES", quantity=Decimal(0), reported=None, agrees=True, acknowledged=False),
        ),
        contradictions=(CONTRADICTION,),
    ),
    m.SnapshotRequest(request_id=7, platform="mt5", account="5001", executions_from_ns=T0 - 10),
    m.Snapshot(
        request_id=7,
        platform="mt5",
        account="5001",
        positions=POSITIONS,
        working_orders=WORKING,
        executions=structs.replace(EXECUTIONS, complete=False),
        funds=FUNDS,
    ),
    m.Hello(
        role=m.Role.ADAPTER,
        name="mt5-adapter",
        boot_id="b-17",
        platform="mt5",
        account="5001",
        account_mode=m.AccountMode.HEDGING,
        capabilities=CAPABILITIES,
        instruments=(
            m.Instrument(symbol="NQ", platform_symbol="NAS100", tick_size=Decimal("0.1"), lot_step=Decimal("0.1")),
        ),
    ),
    m.Welcome(accepted=True, gateway_boot_id="g-3", stage=1, kill_level=m.KillLevel.NORMAL, heartbeat_ms=500),
    m.Heartbeat(last_seq_sent=12, last_seq_received=9, last_data_ns=T0),
    m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="practice", by="operator", platform="mt5", unproven=True),
    m.Resume(request_id=2, reason="practice over", by="operator"),
    m.Acknowledge(request_id=3, platform="mt5", symbol="NQ", by="operator", quantity=Decimal("-0.10"), account="5001"),
    m.AccountRetire(request_id=6, platform="nt8", account="SIM1", by="operator", confirmation="SIM1"),
    m.StageChange(request_id=4, stage=2, by="operator", confirmation="I promote to stage 2", evidence="run 9"),
    m.Query(request_id=5, what=m.QueryKind.REPORT, signal_id="nexus-000042"),
    m.AdminResult(request_id=1, accepted=True, done=False, lines=("mt5: flatten sent, not verified yet",)),
)


def kind(message: m.Message) -> str:
    """The word that names this message on the wire."""
    return str(type(message).__struct_config__.tag)


def envelope(message: m.Message) -> m.Envelope:
    """The envelope that the golden files hold."""
    return m.Envelope(sender="example", seq=1, body=message, last_seq_received=2, sent_ns=T0)


def write_files() -> None:
    """Write `<kind>.json` and `<kind>.hex` (MessagePack) for each example."""
    FOLDER.mkdir(exist_ok=True)
    for message in EXAMPLES:
        (FOLDER / f"{kind(message)}.json").write_bytes(m.encode_json(envelope(message)) + b"\n")
        (FOLDER / f"{kind(message)}.hex").write_text(m.encode(envelope(message)).hex() + "\n")


if __name__ == "__main__":
    write_files()
