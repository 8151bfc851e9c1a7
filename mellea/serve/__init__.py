"""Programs for others: what is written with mellea, served over protocols that other programs speak.

May import: everything below it. Read `response.py` first; `mcp_server.py` stands alone.
"""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.serve.event_stream import sse as sse
    from mellea.serve.mcp_server import McpServer as McpServer
    from mellea.serve.mcp_server import mcp as mcp
    from mellea.serve.plain_text import text as text

__all__ = ["McpServer", "mcp", "sse", "text"]

__getattr__ = lazily(
    __name__,
    {
        "McpServer": "mellea.serve.mcp_server",
        "mcp": "mellea.serve.mcp_server",
        "sse": "mellea.serve.event_stream",
        "text": "mellea.serve.plain_text",
    },
)
