"""Errors that reach the user. Each text names the value, the limit or rule that it broke, and the cure."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of all errors that this product raises on purpose; any other exception is a bug."""


class ConfigError(GatewayError):
    """A configuration file or key is wrong. Nothing of the file has been applied."""


class DataFormatError(GatewayError):
    """A market-data file or frame is corrupt. The text names the file and the position."""


class RunFolderError(GatewayError):
    """The run folder (or recording folder) is in use, not private, or cannot be written."""


class GatewaySilentError(GatewayError):
    """There is no gateway process, or it does not answer."""
