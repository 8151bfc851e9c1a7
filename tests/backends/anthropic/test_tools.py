"""The provider's own tools, as the format declares them."""

from __future__ import annotations

import pytest

from mellea.backends.anthropic import tools
from mellea.core.backend import BuiltinTool
from mellea.errors import UsageError


def test_what_is_said_is_declared_and_nothing_else() -> None:
    place = {"type": "approximate", "city": "Bern"}
    assert tools.web_search(max_uses=3, allowed_domains=("a.example",), user_location=place) == BuiltinTool(
        "anthropic",
        "web_search",
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "max_uses": 3,
            "allowed_domains": ["a.example"],
            "user_location": place,
        },
    )
    assert tools.web_search(version="20260318").config == {"type": "web_search_20260318", "name": "web_search"}
    assert tools.web_fetch(citations=True, max_content_tokens=9).config == {
        "type": "web_fetch_20250910",
        "name": "web_fetch",
        "citations": {"enabled": True},
        "max_content_tokens": 9,
    }
    assert tools.code_execution().config == {"type": "code_execution_20250825", "name": "code_execution"}


def test_mistakes_in_domains() -> None:
    with pytest.raises(UsageError, match="not both"):
        tools.web_search(allowed_domains=["a"], blocked_domains=["b"])
    with pytest.raises(UsageError, match="list of domains"):
        tools.web_fetch(allowed_domains="a.example")


def test_a_token_is_not_shown() -> None:
    assert "token-1234" not in repr(tools.mcp("docs", "https://a.example", authorization_token="token-1234"))
