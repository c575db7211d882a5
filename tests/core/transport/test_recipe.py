"""The manual's recipe for a client without our package, run as it stands in docs/protocol.md."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from nexus_gateway.core.messages import AdminResult, Query, Role
from nexus_gateway.core.transport import PeerMessage

from tests.support.links import Ends, short_folder

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"


def recipe() -> Any:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = [block for block in blocks if "def ask_status" in block]
    assert "nexus_gateway" not in text
    names: dict[str, Any] = {}
    exec(compile(text, str(PAGE), "exec"), names)  # our own page
    return names["ask_status"]


def run_recipe(ends: Ends, role: str) -> list[Any]:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(recipe()(ends.endpoint, ends.keys / role))
        except ConnectionRefusedError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    answered = 0

    def is_over() -> bool:
        nonlocal answered
        questions = [each for each in ends.events if isinstance(each, PeerMessage) and isinstance(each.body, Query)]
        for question in questions[answered:]:
            answered += 1
            lines = ("stage 1",)
            ends.server.send(question.peer, AdminResult(request_id=1, accepted=True, done=True, lines=lines))
        return not thread.is_alive()

    ends.until(is_over)
    return found


@pytest.mark.parametrize("endpoint", ["ipc", "tcp"])
def test_the_recipe_connects_and_is_answered(endpoint: str) -> None:
    ends = Ends([f"ipc://{short_folder()}/a.ipc" if endpoint == "ipc" else "tcp://127.0.0.1:0"])
    try:
        (answer,) = run_recipe(ends, "nexus")
        assert (answer["type"], answer["accepted"], answer["lines"]) == ("admin_result", True, ["stage 1"])
    finally:
        ends.close()


def test_the_recipe_says_why_it_is_refused() -> None:
    ends = Ends(["tcp://127.0.0.1:0"], roles=(Role.NEXUS, Role.ADMIN))
    try:
        (error,) = run_recipe(ends, "operator")
        assert "has proved the key operator" in str(error)
    finally:
        ends.close()
