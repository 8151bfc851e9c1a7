"""Programs for others: what is written with mellea, served over protocols that other programs speak.

May import: everything below it. Read `mcp_server.py` first.
"""

from mellea.serve.mcp_server import McpServer, mcp

__all__ = ["McpServer", "mcp"]
