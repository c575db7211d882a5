"""The gateway process: everything around the pure engine. Entry: `nexus_gateway.core.gateway:main`."""

from __future__ import annotations

from .process import main as main
