"""Run an agent, and print its answer, its steps and its tokens.

Run it: uv run docs/examples/lmstudio/lmstudio_run_async.py
Needs: the embedded model, or LM Studio with a model that LMSTUDIO_MODEL names

The embedded model answers at length, and rarely what was asked. A bigger model answers in the one sentence that the
agent is told to write.
"""

import asyncio

from lmstudio_session import open_session

from mellea import Agent, MelleaSession


async def main(m: MelleaSession) -> None:
    agent = Agent(m, instructions="Answer in one short sentence.")
    run = await agent.arun("What is a lighthouse for?")
    print(run.value)
    print(f"{len(run.steps)} step(s), {run.usage.total_tokens if run.usage else '?'} tokens")


if __name__ == "__main__":
    with open_session() as session:
        asyncio.run(main(session))
