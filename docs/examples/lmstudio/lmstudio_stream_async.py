"""Print an agent's answer in chunks of eight characters: only the final answer, without any steps before it.

Run it: uv run docs/examples/lmstudio/lmstudio_stream_async.py
Needs: the embedded model, or LM Studio with a model that LMSTUDIO_MODEL names

The embedded model makes up a story. A bigger model says hello. The chunks have the same size.
"""

import asyncio

from lmstudio_session import open_session

from mellea import Agent, MelleaSession


async def stream(agent: Agent[str], prompt: str) -> str:
    full_text = ""
    async for chunk in agent.astream(prompt, chunk_size=8):
        full_text += chunk.text
        print(chunk.text, end="", flush=True)
        if chunk.is_final:
            break
    print()
    return full_text


async def main(m: MelleaSession) -> None:
    full_text = await stream(Agent(m), "Say hello in one short sentence.")
    print(f"{len(full_text)} characters")


if __name__ == "__main__":
    with open_session() as session:
        asyncio.run(main(session))
