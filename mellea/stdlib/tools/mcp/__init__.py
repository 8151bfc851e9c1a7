"""Tools of MCP servers: one task owns each connection, and any task or thread may use it.

The package `mcp` is loaded when needed.
"""

# May import: core, and the tools around it. Read `connection.py` first.

from mellea.stdlib.tools.mcp.remote_tool import McpTool
from mellea.stdlib.tools.mcp.tool_set import McpTools, mcp

__all__ = ["McpTool", "McpTools", "mcp"]
