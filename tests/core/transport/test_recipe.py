"""The manual's recipe for a client without our package, run as it stands in docs/protocol.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
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
    answer_queries(ends, lambda: not thread.is_alive())
    return found


def answer_queries(ends: Ends, is_over: Callable[[], bool]) -> None:
    """Turn the server, and answer each question, until the client has ended."""
    answered = 0

    def turned() -> bool:
        nonlocal answered
        questions = [each for each in ends.events if isinstance(each, PeerMessage) and isinstance(each.body, Query)]
        for question in questions[answered:]:
            answered += 1
            lines = ("stage 1",)
            ends.server.send(question.peer, AdminResult(request_id=1, accepted=True, done=True, lines=lines))
        return is_over()

    ends.until(turned)


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


NODE_PACKAGES = Path(__file__).parents[3] / "build" / "node" / "node_modules"


@pytest.mark.skipif(
    shutil.which("node") is None or not (NODE_PACKAGES / "zeromq").exists(),
    reason="needs node, and: npm install --prefix build/node --ignore-scripts zeromq @msgpack/msgpack",
)
def test_the_recipe_in_node_connects_and_is_answered(tmp_path: Path) -> None:
    (text,) = re.findall(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path / "client.js"
    call = "askStatus(...process.argv.slice(2)).then((found) => console.log(JSON.stringify(found)))"
    script.write_text(f"{text}\n{call}\n")
    ends = Ends(["tcp://127.0.0.1:0"])
    try:
        running = subprocess.Popen(
            ["node", str(script), ends.endpoint, str(ends.keys / "nexus")],
            env={"NODE_PATH": str(NODE_PACKAGES), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            text=True,
        )
        with running:
            answer_queries(ends, lambda: running.poll() is not None)
            assert running.stdout is not None
            answer = json.loads(running.stdout.read())
        assert (answer["type"], answer["accepted"], answer["lines"]) == ("admin_result", True, ["stage 1"])
    finally:
        ends.close()
