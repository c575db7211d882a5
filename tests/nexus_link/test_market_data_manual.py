"""The snippets of docs/market_data.md run as they stand, one after the other, against rings that have ticks."""

from __future__ import annotations

import re
from pathlib import Path

from nexus_gateway.shm import host
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.support.commands import REPOSITORY
from tests.support.feeds import close_feed, make_feed, make_symbols

QUOTE = int(TickFlag.BID | TickFlag.ASK)


def test_every_snippet_runs(run_dir: Path, monkeypatch, capsys):
    text = (REPOSITORY / "docs" / "market_data.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 5
    monkeypatch.setattr(host, "default_run_folder", lambda: run_dir)
    make_symbols(run_dir, "NQ", "ES")
    nt8, sierra = make_feed(run_dir, "nt8", Platform.NT8), make_feed(run_dir, "sierra", Platform.SIERRA)

    def publish() -> None:
        """A quote and a trade of NQ on each platform."""
        for feed, bid in ((nt8, 100.0), (sierra, 100.25)):
            feed.beat()
            ticks = empty_ticks(2)
            ticks["symbol"], ticks["source"], ticks["flags"] = 1, int(feed.platform), [QUOTE, int(TickFlag.TRADE)]
            ticks["bid"], ticks["ask"], ticks["bid_size"] = bid, bid + 0.5, 3
            ticks["last"][1], ticks["last_size"][1] = bid, 2
            feed.publish(ticks)

    publish()
    names: dict[str, object] = {}
    shown = []
    for snippet in snippets:
        exec(compile(snippet, "docs/market_data.md", "exec"), names)
        shown.append(capsys.readouterr().out)
        publish()
    assert shown == [
        "100.0 100.5\nsierra 100.25 nt8 100.5 0.25\n",
        "4 4.0 0\n",  # the four ticks since the view was made
        "4.0\n",  # the next four, in a kernel
        "24.0\n",  # all eight of one ring
        "8\n",  # what has come since the kernel ran
    ]
    for feed in (nt8, sierra):
        close_feed(feed)
