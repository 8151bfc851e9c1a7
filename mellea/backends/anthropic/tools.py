"""The tools that Anthropic runs itself: `tools=[anthropic.tools.web_search(max_uses=3)]`."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.backends.anthropic.wire import PROVIDER, Json, JsonObject
from mellea.core.backend import BuiltinTool
from mellea.errors import UsageError

__all__ = ["code_execution", "mcp", "web_fetch", "web_search"]


class _Secret(str):
    """A string that `repr` hides, so that a tool can be printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


def web_search(
    *,
    max_uses: int | None = None,
    allowed_domains: Sequence[str] | None = None,
    blocked_domains: Sequence[str] | None = None,
    user_location: JsonObject | None = None,
    version: str = "20250305",
) -> BuiltinTool:
    """Let the model search the web; its citations arrive as sources.

    Args:
        max_uses: searches in one answer.
        allowed_domains: search these alone.
        blocked_domains: never these; not together with `allowed_domains`.
        user_location: such as `{"type": "approximate", "city": "Bern", "country": "CH"}`.
        version: of the tool, as the provider dates it.
    """
    _check_one(allowed_domains, blocked_domains)
    return _make_tool(
        "web_search",
        version,
        max_uses=max_uses,
        allowed_domains=_list(allowed_domains),
        blocked_domains=_list(blocked_domains),
        user_location=user_location,
    )


def web_fetch(
    *,
    max_uses: int | None = None,
    allowed_domains: Sequence[str] | None = None,
    blocked_domains: Sequence[str] | None = None,
    citations: bool = False,
    max_content_tokens: int | None = None,
    version: str = "20250910",
) -> BuiltinTool:
    """Let the model read web pages whose addresses are in the conversation.

    Args:
        max_uses: pages in one answer.
        allowed_domains: read these alone.
        blocked_domains: never these; not together with `allowed_domains`.
        citations: whether the model says where in a page it found something.
        max_content_tokens: of one page; the rest is cut off.
        version: of the tool, as the provider dates it.
    """
    _check_one(allowed_domains, blocked_domains)
    return _make_tool(
        "web_fetch",
        version,
        max_uses=max_uses,
        allowed_domains=_list(allowed_domains),
        blocked_domains=_list(blocked_domains),
        citations={"enabled": True} if citations else None,
        max_content_tokens=max_content_tokens,
    )


def code_execution(*, version: str = "20250825") -> BuiltinTool:
    """Let the model run Python and shell commands in a container at the provider.

    Args:
        version: of the tool, as the provider dates it.
    """
    return _make_tool("code_execution", version)


def mcp(name: str, url: str, *, authorization_token: str | None = None) -> BuiltinTool:
    """Let the model use the tools of an MCP server that the provider can reach.

    Args:
        name: what to call the server.
        url: where it is, beginning with `https://`.
        authorization_token: for the server, not for the provider.
    """
    server: JsonObject = {"type": "url", "name": name, "url": url}
    if authorization_token is not None:
        server["authorization_token"] = _Secret(authorization_token)
    return BuiltinTool(PROVIDER, name, {"type": "mcp_toolset", "mcp_server_name": name, "mcp_server": server})


def _make_tool(name: str, version: str, **settings: Json) -> BuiltinTool:
    known = {key: value for key, value in settings.items() if value is not None}
    return BuiltinTool(PROVIDER, name, {"type": f"{name}_{version}", "name": name, **known})


def _list(values: Sequence[str] | None) -> list[str] | None:
    if isinstance(values, str):
        raise UsageError(f"allowed_domains and blocked_domains take a list of domains, not {values!r}")
    return None if values is None else list(values)


def _check_one(allowed: Sequence[str] | None, blocked: Sequence[str] | None) -> None:
    if allowed is not None and blocked is not None:
        raise UsageError("give allowed_domains or blocked_domains, not both")
