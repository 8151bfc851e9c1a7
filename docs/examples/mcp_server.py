"""Offer a plain function and a generative one as tools to any MCP client. `mcp_client.py` starts it.

Run it: uv run docs/examples/mcp_server.py
Needs: mellea[mcp], the embedded model, and an MCP client that starts it and talks to it

The embedded model's slogans say little about the city. A bigger model writes one that fits its size.
"""

import mellea
from mellea.serve import mcp

PEOPLE = {"Lisbon": 545_000, "Oslo": 717_000, "Porto": 231_000}


def population(city: str) -> int:
    """Look up how many people live in a city.

    Args:
        city: its name in English.
    """
    if city not in PEOPLE:
        raise mellea.errors.ToolError(f"there is no city {city!r}; the cities are {', '.join(PEOPLE)}")
    return PEOPLE[city]


@mellea.generative
def slogan(city: str, people: int) -> str:
    """Write a slogan of one sentence for a city with that many people."""
    ...


if __name__ == "__main__":
    with mellea.start_session(model_options={"seed": 1, "temperature": 0.6, "max_tokens": 40}):
        mcp(population, slogan, name="cities").run()  # over standard input and output
