"""The tools that Vercel's AI Gateway runs itself, for any model behind it.

AI Gateway documentation, "Web search", section on chat completions (as of 2026-09): a tool is declared as
`{"type": "vercel:perplexity_search", "config": {…}}`. The gateway sends the results only to the model; the
response only says how often each tool ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mellea.core.backend import BuiltinTool

__all__ = ["exa_search", "parallel_search", "perplexity_search", "tako_search"]

_PROVIDER = "ai_gateway"


def perplexity_search(
    *,
    max_results: int | None = None,
    search_domain_filter: Sequence[str] | None = None,
    search_recency_filter: Literal["day", "week", "month", "year"] | None = None,
    **settings: Any,
) -> BuiltinTool:
    """Make the tool that searches the web with Perplexity.

    Args:
        max_results: at most this many per search.
        search_domain_filter: search only these domains, or all but those that begin with `-`.
        search_recency_filter: nothing older.
        settings: further settings, by the gateway's names.
    """
    domains = list(search_domain_filter) if search_domain_filter is not None else None
    known = {
        "max_results": max_results,
        "search_domain_filter": domains,
        "search_recency_filter": search_recency_filter,
    }
    return _make_tool("perplexity_search", known, settings)


def exa_search(*, num_results: int | None = None, **settings: Any) -> BuiltinTool:
    """Make the tool that searches the web with Exa.

    Args:
        num_results: at most this many per search.
        settings: further settings, by the gateway's names.
    """
    return _make_tool("exa_search", {"num_results": num_results}, settings)


def parallel_search(*, max_results: int | None = None, **settings: Any) -> BuiltinTool:
    """Make the tool that searches the web with Parallel.

    Args:
        max_results: at most this many per search.
        settings: further settings, by the gateway's names.
    """
    return _make_tool("parallel_search", {"max_results": max_results}, settings)


def tako_search(**settings: Any) -> BuiltinTool:
    """Make the tool that searches Tako's data.

    Args:
        settings: as the gateway names them.
    """
    return _make_tool("tako_search", {}, settings)


def _make_tool(name: str, known: Mapping[str, Any], settings: Mapping[str, Any]) -> BuiltinTool:
    given = {key: value for key, value in {**known, **settings}.items() if value is not None}
    return BuiltinTool(_PROVIDER, name, {"type": f"vercel:{name}", **({"config": given} if given else {})})
