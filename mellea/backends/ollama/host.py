"""Where Ollama is: `OLLAMA_HOST` in its various forms, as an address.

Without a scheme the default port is 11434, with one it is the scheme's own. A server that listens on all interfaces
(`0.0.0.0`) is reached through loopback.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from mellea.backends.ollama.wire import DEFAULT_PORT, HOST_VARIABLE
from mellea.errors import ConfigurationError

__all__ = ["host_from_environment", "parse_host"]

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


def host_from_environment() -> str:
    """Return the address that the environment names, the usual one by default.

    Raises:
        ConfigurationError: it names none.
    """
    return parse_host(os.environ.get(HOST_VARIABLE, ""))


def parse_host(host: str) -> str:
    """Return a host in any of its forms as an address without a slash at its end.

    Raises:
        ConfigurationError: it is not a host.
    """
    host = host.strip().strip("\"'")
    has_scheme = "://" in host
    try:
        parts = urlsplit(host if has_scheme else f"http://{host}")
        port, name = parts.port, parts.hostname or ""
    except ValueError as error:
        raise ConfigurationError(
            f"{HOST_VARIABLE} is {host.rpartition('@')[2]!r}, which is not a host: {error}; "
            "it takes a host, host:port or http://host:port"
        ) from error
    name = _ANYWHERE.get(name, f"[{name}]" if ":" in name else name)
    if port is None and not has_scheme:
        port = DEFAULT_PORT
    user = parts.netloc.rpartition("@")[0]
    place = f"{user}@{name}" if user else name
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
