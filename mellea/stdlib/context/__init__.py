"""Contexts: what a call knows of earlier calls."""

# May import: core. Read `chat.py` first, then `window.py`.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.core.context import Context as Context
    from mellea.core.context import SimpleContext as SimpleContext
    from mellea.core.context import Turn as Turn
    from mellea.stdlib.context.chat import ChatContext as ChatContext
    from mellea.stdlib.context.compactors import SummaryCompactor as SummaryCompactor
    from mellea.stdlib.context.compactors import ThresholdCompactor as ThresholdCompactor
    from mellea.stdlib.context.compactors import WindowCompactor as WindowCompactor
    from mellea.stdlib.context.tokens import estimate_tokens as estimate_tokens
    from mellea.stdlib.context.tokens import get_turn_texts as get_turn_texts
    from mellea.stdlib.context.tool_results import replace_tool_results as replace_tool_results

__all__ = [
    "ChatContext",
    "Context",
    "SimpleContext",
    "SummaryCompactor",
    "ThresholdCompactor",
    "Turn",
    "WindowCompactor",
    "estimate_tokens",
    "get_turn_texts",
    "replace_tool_results",
]

__getattr__ = lazily(
    __name__,
    {
        "ChatContext": "mellea.stdlib.context.chat",
        "Context": "mellea.core.context",
        "SimpleContext": "mellea.core.context",
        "SummaryCompactor": "mellea.stdlib.context.compactors",
        "ThresholdCompactor": "mellea.stdlib.context.compactors",
        "Turn": "mellea.core.context",
        "WindowCompactor": "mellea.stdlib.context.compactors",
        "estimate_tokens": "mellea.stdlib.context.tokens",
        "get_turn_texts": "mellea.stdlib.context.tokens",
        "replace_tool_results": "mellea.stdlib.context.tool_results",
    },
)
