"""Call the tools of an MCP server, and show their progress. The program starts `mcp_server.py`.

Run it: uv run docs/examples/mcp_client.py
Needs: mellea[mcp] and the embedded model

The embedded model's slogans say little about the city. A bigger model writes one that fits its size.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mellea.errors import ToolError
from mellea.tools import mcp

# A server inherits only a few variables, such as PATH; others have to be passed on.
tools = mcp(
    [sys.executable, str(Path(__file__).with_name("mcp_server.py"))],
    env={name: value for name, value in os.environ.items() if name.startswith(("MELLEA_", "PYTHON"))},
)


async def look_up(city: str) -> int:
    population = next(tool for tool in await tools.aload() if tool.name == "population")
    try:
        await population(city="Atlantis")
    except ToolError as error:  # a model that calls the tool gets this as its result
        print(f"Atlantis: {error}")
    answer = await population(city=city)
    return int(answer.value["result"])


async def praise(city: str, people: int) -> str:
    slogan = next(tool for tool in await tools.aload() if tool.name == "slogan")

    def show(progress: Any) -> None:
        print(progress["message"], end="", flush=True)

    text = await slogan.call({"city": city, "people": people}, on_progress=show)
    print()
    return str(text)


if __name__ == "__main__":
    for tool in tools.load():
        print(f"{tool.name}: {tool.spec.description}")
    people = asyncio.run(look_up("Lisbon"))
    print(f"Lisbon: {people}")
    text = asyncio.run(praise("Lisbon", people))  # another event loop; the same connection
    print(f"{len(text)} characters")
    tools.close()
