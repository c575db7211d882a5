"""Long forms of tests: few rounds guard a landing, many run by `make torture`, with random numbers of a seed.

`NEXUS_TEST_SEED` is that seed. Where it is empty, as in `make test`, each test draws the same numbers every time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import settings

SEED: Final = os.environ.get("NEXUS_TEST_SEED", "")


def rounds(few: int, many: int) -> Any:
    """Parametrize a test's argument `rounds`: `few` in `make test`, `many` in `make torture`."""
    return pytest.mark.parametrize(
        "rounds", [pytest.param(few, id="few"), pytest.param(many, id="many", marks=pytest.mark.torture)]
    )


def examples(few: int, many: int, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Of a property: `few` examples in `make test`; with a seed it belongs to torture and tries `many`."""

    def limit(test: Callable[..., Any]) -> Callable[..., Any]:
        limited: Callable[..., Any] = settings(max_examples=many if SEED else few, **options)(test)
        return pytest.mark.torture(limited) if SEED else limited

    return limit


def random_numbers(name: str) -> random.Random:
    """Random numbers of the test of that name and id; prints how to get the same ones again."""
    print(f"the same random numbers again: NEXUS_TEST_SEED={SEED} .venv/bin/pytest '{name}'")
    return random.Random(f"{SEED} {name}")
