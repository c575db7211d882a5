"""Commands that read and write files: paths that cannot be used, keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.operator_commands import run
from tests.support.trading_floor import Floor


def test_a_path_that_cannot_be_used_is_named_without_a_traceback() -> None:
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        for words, path in (
            (("journal", "export", "-o", str(floor.root)), str(floor.root)),
            (("journal", "backup", str(floor.root / "nowhere" / "copy")), "nowhere"),
            (("journal", "verify", str(floor.root)), str(floor.root)),
        ):
            answer = run(floor, *words)
            assert answer.code in (1, 2), words
            assert answer.err.startswith("error: "), answer.err
            assert path in answer.err
            assert "Traceback" not in answer.err
        floor.kill()
        Path(floor.config.journal_path).parent.chmod(0o755)
        answer = run(floor, "journal", "restore", str(floor.root / "copy"))
        assert answer.code == 2
        assert "has mode 0o755, allowed is 0o700" in answer.err
    finally:
        floor.close()


def test_keys_are_made(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "nexus_gateway.core.cli", "keys", str(tmp_path), "nexus", "--json"]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert Path(made["secret"]).stat().st_mode & 0o777 == 0o600
    assert Path(made["public"]).exists()
