"""Programs for others: what is written with mellea, served over protocols that other programs speak.

May import: everything below it. Read `response.py` first, then `application.py`; `mcp_server.py` stands alone.
"""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.serve.ai_sdk.ui_stream import ui as ui
    from mellea.serve.application import app as app
    from mellea.serve.event_stream import sse as sse
    from mellea.serve.mcp_server import McpServer as McpServer
    from mellea.serve.mcp_server import mcp as mcp
    from mellea.serve.plain_text import text as text

__all__ = ["McpServer", "app", "mcp", "sse", "text", "ui"]

__getattr__ = lazily(
    __name__,
    {
        "app": "mellea.serve.application",
        "McpServer": "mellea.serve.mcp_server",
        "mcp": "mellea.serve.mcp_server",
        "sse": "mellea.serve.event_stream",
        "text": "mellea.serve.plain_text",
        "ui": "mellea.serve.ai_sdk.ui_stream",
    },
)
