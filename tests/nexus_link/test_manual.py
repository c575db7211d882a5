"""The snippets of docs/nexus.md run as they stand, one after the other, against a gateway."""

from __future__ import annotations

import re

from nexus_gateway.core.messages import SignalCancel, SignalClose, SignalState
from nexus_gateway.shm import host

from tests.support.commands import REPOSITORY
from tests.support.scripted_gateway import ScriptedGateway, short_folder, until


def test_every_snippet_runs(monkeypatch, capsys):
    text = (REPOSITORY / "docs" / "nexus.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 8
    with short_folder() as folder:
        monkeypatch.setattr(host, "default_run_folder", lambda: folder)
        monkeypatch.setenv("XDG_DATA_HOME", str(folder))
        gateway = ScriptedGateway(folder)
        names: dict[str, object] = {}
        try:
            for snippet in snippets:
                exec(compile(snippet, "docs/nexus.md", "exec"), names)
            until(lambda: {SignalCancel, SignalClose} <= {type(message) for message in gateway.heard})
        finally:
            names["gateway"].close()  # type: ignore[attr-defined]  # the first snippet has made it
            gateway.stop()
    shown = capsys.readouterr().out
    assert f"{SignalState.FILLED}" in shown
    assert "size_below_lot" in shown
    assert "400.00 USD" in shown
