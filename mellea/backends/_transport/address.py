"""A base URL: checked once, and split into what is called, what is shown and what is secret."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from mellea.errors import UsageError

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider's paths begin.

    Attributes:
        base: without user, query and trailing slash.
        origin: scheme, host and port: what errors show.
        query: goes behind every path, as some gateways want their API version.
        authorization: made of a user and password in the URL, so that no log shows them.
    """

    base: str
    origin: str
    query: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """Take a base URL apart.

        Raises:
            UsageError: it isn't an http or https URL with a host.
        """
        example = "it looks like 'https://host/v1'"
        if not isinstance(base_url, str):
            raise UsageError(f"base_url takes a text, not {base_url!r}; {example}")
        try:
            parts = urlsplit(base_url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"base_url is no URL: {error}; {example}") from None
        place = parts.netloc.rpartition("@")[2]
        if parts.scheme not in ("http", "https") or not host or not place.isprintable() or " " in place:
            raise UsageError(f"base_url {parts.scheme}://{place}{parts.path} is no http or https URL; {example}")
        del port  # it was only to be read, since a bad one raises
        origin = f"{parts.scheme}://{place}"
        return cls(origin + parts.path.rstrip("/"), origin, parts.query, _authorization(parts.username, parts.password))

    @property
    def is_tls(self) -> bool:
        """Whether certificates are checked."""
        return self.base.startswith("https:")

    def join(self, path: str) -> str:
        """Return the whole URL of a path, which may bring a query of its own."""
        path, _, query = path.partition("?")
        query = "&".join(part for part in (query, self.query) if part)
        url = f"{self.base}/{path.lstrip('/')}" if path else self.base
        return f"{url}?{query}" if query else url


def _authorization(user: str | None, password: str | None) -> str | None:
    if user is None and password is None:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
