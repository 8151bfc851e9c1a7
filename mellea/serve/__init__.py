"""Serve programs written with mellea over protocols that other programs speak."""

# May import: everything below it. Read `response.py` first, then `application.py`; `mcp_server.py` is separate.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.serve.ai_sdk.chat import Chat as Chat
    from mellea.serve.ai_sdk.messages import ChatRequest as ChatRequest
    from mellea.serve.ai_sdk.messages import chat_request as chat_request
    from mellea.serve.ai_sdk.ui_stream import ui as ui
    from mellea.serve.application import app as app
    from mellea.serve.event_stream import sse as sse
    from mellea.serve.mcp_server import McpServer as McpServer
    from mellea.serve.mcp_server import mcp as mcp
    from mellea.serve.page.render import chat_page as chat_page
    from mellea.serve.plain_text import text as text
    from mellea.serve.response import Encoder as Encoder
    from mellea.serve.response import StreamResponse as StreamResponse

__all__ = [
    "Chat",
    "ChatRequest",
    "Encoder",
    "McpServer",
    "StreamResponse",
    "app",
    "chat_page",
    "chat_request",
    "mcp",
    "sse",
    "text",
    "ui",
]

__getattr__ = lazily(
    __name__,
    {
        "Chat": "mellea.serve.ai_sdk.chat",
        "ChatRequest": "mellea.serve.ai_sdk.messages",
        "Encoder": "mellea.serve.response",
        "app": "mellea.serve.application",
        "McpServer": "mellea.serve.mcp_server",
        "StreamResponse": "mellea.serve.response",
        "chat_page": "mellea.serve.page.render",
        "chat_request": "mellea.serve.ai_sdk.messages",
        "mcp": "mellea.serve.mcp_server",
        "sse": "mellea.serve.event_stream",
        "text": "mellea.serve.plain_text",
        "ui": "mellea.serve.ai_sdk.ui_stream",
    },
)
