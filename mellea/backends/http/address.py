"""A base URL: checked once, and split into what is requested, what is shown and what is secret."""

from __future__ import annotations

import base64
from dataclasses import field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mellea.core.masking import list_known_secrets, scrub_text
from mellea.core.values import quick_value
from mellea.errors import UsageError, WireError

__all__ = ["Address", "find_way"]

_EXAMPLE = "it looks like 'https://host/v1'"
_ENDPOINTS = ("/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate")
_HARMLESS = ("version", "alt", "beta", "region", "location", "model", "deployment", "provider")
"""Parts of the names of query fields whose values aren't keys; any other value may be one."""

_SHORTEST_SECRET = 6


@quick_value
class Address:
    """The base of a provider's paths.

    Attributes:
        base: without user, query and trailing slash.
        origin: scheme, host and port: what errors show.
        host: the server, without brackets.
        port: of the server; `None` is the scheme's own.
        query: appended to every path, as some gateways need for their API version.
        authorization: made from user and password in the URL, so that no log shows them.
        password: that password.
    """

    base: str
    origin: str
    host: str
    port: int | None = None
    query: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """Parse a base URL.

        Raises:
            UsageError: it isn't an http or https URL with a host, or it includes an endpoint.
        """
        if not isinstance(base_url, str):
            raise UsageError(f"base_url takes a string, not {base_url!r}; {_EXAMPLE}")
        try:
            parts = urlsplit(base_url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"base_url is not a valid URL: {error}; {_EXAMPLE}") from None
        # After the last `@`: a password may contain one, and must not be shown.
        place = parts.netloc.rpartition("@")[2]
        is_clean = place.isprintable() and " " not in place and parts.path.isprintable() and parts.query.isprintable()
        if parts.scheme not in ("http", "https") or not host or not is_clean:
            raise UsageError(f"base_url {_show(base_url)!r} is not a valid http or https URL; {_EXAMPLE}")
        path = parts.path.rstrip("/")
        # A common mistake: pasted from a curl example, the URL would have each path twice.
        if end := next((end for end in _ENDPOINTS if path.lower().endswith(end)), None):
            raise UsageError(
                f"base_url {f'{parts.scheme}://{place}{path}'!r} is the address of an endpoint; give the part before "
                f"it: leave out {end.removeprefix('/v1')!r}"
            )
        return cls(
            f"{parts.scheme}://{place}{path}",
            f"{parts.scheme}://{place}",
            host,
            port,
            parts.query,
            _make_authorization(parts.username, parts.password),
            parts.password,
        )

    @property
    def is_tls(self) -> bool:
        """Whether TLS is used."""
        return self.base.startswith("https:")

    def join(self, path: str) -> str:
        """Return the complete URL of a path, which may have its own query, or of a URL on the same server.

        Raises:
            UsageError: the path, which may contain a model's name, leaves the base URL.
            WireError: the URL is on another server, which would get the key.
        """
        if path.startswith(("http://", "https://")):
            way, url = find_way(path, self)
            if way is not None:
                raise WireError(f"the provider names a server other than its own, {way.origin!r}, to be sent a file")
            return url
        path, _, query = path.partition("?")
        path = path.lstrip("/")
        # Decoded before the check: some servers resolve `%2e%2e` and `\`.
        names = unquote(path).replace("\\", "/").split("/")
        if "." in names or ".." in names or not path.isprintable() or "#" in path:
            raise UsageError(f"the path {path!r} doesn't stay below {self.base!r}; check model_id")
        query = f"{query}&{self.query}" if query and self.query else query or self.query
        url = f"{self.base}/{path}" if path else self.base
        return f"{url}?{query}" if query else url

    def secrets(self) -> set[str]:
        """Return possible keys in the URL: raw, decoded, and as a server may show them."""
        fields = parse_qsl(self.query, keep_blank_values=True)
        # By known harmless names, not by names that look like keys: gateways give their keys any name.
        values = [value for name, value in fields if not any(part in name.lower() for part in _HARMLESS)]
        if self.password is not None:
            values.append(unquote(self.password))
        # The raw value, too: a server's error may repeat the URL undecoded.
        written = [
            part.partition("=")[2] for part in self.query.split("&") if unquote(part.partition("=")[2]) in values
        ]
        found = {*values, *written, *(quote(value, safe="") for value in values), *([self.password or ""])}
        # Shorter ones would mask half of an error's words.
        return {text for text in found if len(text) >= _SHORTEST_SECRET}


def find_way(url: str, home: Address) -> tuple[Address | None, str]:
    """Return the server of a provider's file, `None` if it is the provider's own, and the file's URL.

    Args:
        url: the URL from the provider.
        home: the provider's own server.

    Raises:
        WireError: it is not a URL that may be followed.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    place = parts.netloc.rpartition("@")[2]
    is_clean = url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not host or not is_clean:
        raise WireError(f"the provider names a file at {place!r}, which is not a valid http or https address")
    # An eavesdropper would see the file, and could replace it.
    if home.is_tls and parts.scheme != "https":
        raise WireError(f"the provider names a file at {place!r} that would be downloaded without encryption")
    address = f"{parts.scheme}://{place}{parts.path}{'?' if parts.query else ''}{parts.query}"
    ports = {"http": 80, "https": 443}
    scheme = "https" if home.is_tls else "http"
    if (parts.scheme, host, port or ports[parts.scheme]) == (scheme, home.host, home.port or ports[scheme]):
        return None, address
    return Address(f"{parts.scheme}://{place}", f"{parts.scheme}://{place}", host, port), address


def _show(base_url: str) -> str:
    """Return a URL as it was given, but for what may be secret: user, password, query and fragment."""
    begin, divider, rest = base_url.strip().partition("?")[0].partition("#")[0].rpartition("://")
    return scrub_text(begin + divider + rest.rpartition("@")[2], list_known_secrets())


def _make_authorization(user: str | None, password: str | None) -> str | None:
    if user is None and password is None:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
