"""Show every chunk of an agent's run in brackets, with its step, in code without `async`.

Run it: uv run docs/examples/lmstudio/lmstudio_stream_visual.py
Needs: the embedded model, or LM Studio with a model that LMSTUDIO_MODEL names

The embedded model needs many words. A bigger model answers in one short sentence.
"""

from lmstudio_session import open_session

from mellea import Agent

if __name__ == "__main__":
    with open_session() as session:
        agent = Agent(session, instructions="Answer in one short sentence.")
        for chunk in agent.stream("What colour is the sea?", live=True):
            print(f"[{chunk.step}:{chunk.text}]" if chunk.text else "", end="", flush=True)
            if chunk.is_final:
                print("\n(final)")
