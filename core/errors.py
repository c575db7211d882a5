"""Errors that reach a person. Each text names the value, the limit or rule it broke, and the cure."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of every error that this product raises on purpose; anything else is a bug."""


class ConfigError(GatewayError):
    """A configuration file or key is wrong. Nothing of the file was applied."""


class DataFormatError(GatewayError):
    """A market-data file or frame is broken. The text names the file and the position."""


class RunFolderError(GatewayError):
    """The run folder is in use, not private, or not usable."""


class GatewaySilentError(GatewayError):
    """There is no gateway process, or it does not answer."""
