"""Time the chunks of an answer: safe ones arrive when the step is over, live ones while it is written.

Run it: uv run docs/examples/lmstudio/lmstudio_stream_timing.py
Needs: the embedded model, or LM Studio with a model that LMSTUDIO_MODEL names

A bigger model takes longer, so its live chunks arrive even earlier than the safe ones.
"""

import asyncio
from time import perf_counter

from lmstudio_session import open_session

from mellea import Agent, MelleaSession


async def measure(agent: Agent[str], *, live: bool) -> None:
    started = perf_counter()
    arrivals = [perf_counter() - started async for _ in agent.astream("Tell me about the sea.", live=live)]
    kind = "live" if live else "safe"
    print(f"{kind}: {len(arrivals)} chunks, the first after {arrivals[0]:.2f} s, the last after {arrivals[-1]:.2f} s")


async def main(m: MelleaSession) -> None:
    agent = Agent(m)
    await measure(agent, live=False)
    await measure(agent, live=True)


if __name__ == "__main__":
    with open_session() as session:
        asyncio.run(main(session))
