"""What an agent notes in one conversation, another process knows in the next one.

Run it: uv run docs/examples/memory.py
Needs: no model; a script stands in for it, unless MELLEA_MODEL names one

A script takes the place of the model, since the embedded one is too small to take notes well. Name a model in
MELLEA_MODEL to see a real one do it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mellea
from mellea import Agent
from mellea.core import ToolCall
from mellea.events import TextDelta, ToolEnd, ToolResult
from mellea.testing import ScriptedBackend
from mellea.tools import Memory


def note(text: str) -> ToolEnd:
    return ToolEnd(ToolCall("c1", "remember", {"note": text}))


MONDAY = ScriptedBackend([note("Ann is allergic to peanuts.")], "Noted.", [note("Ann cooks for four.")], "Four it is.")
TUESDAY = ScriptedBackend(
    [ToolEnd(ToolCall("c1", "recall", {"query": "allergy"}))], "A curry without peanuts, for four."
)


def talk(script: ScriptedBackend, file: str, *prompts: str) -> None:
    model = mellea.start_session() if os.environ.get("MELLEA_MODEL") else script
    conversation = Agent(model, memory=Memory(file, "ann"), instructions="You help with cooking.").conversation()
    for prompt in prompts:
        print(f"Ann: {prompt}", flush=True)
        for event in conversation.stream(prompt).events():
            match event:
                case ToolEnd(call):
                    print(f"  [{call.tool_name} {dict(call.tool_args)}]")
                case ToolResult(output) if output.tool_name == "recall":
                    found = output.result  # a text where nothing was found
                    print(f"  [found {[each['note'] for each in found] if isinstance(found, list) else found}]")
                case TextDelta(text):
                    print(f"  {text}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "memory.db")
        talk(MONDAY, file, "I'm allergic to peanuts.", "I usually cook for four.")
        print("-- the next day, in another process", flush=True)
        subprocess.run([sys.executable, __file__, file], check=True)
        memory = Memory(file, "ann")
        print("what is kept about Ann:", [found.text for found in memory.notes()])
        print("what is kept about Bob:", memory.of("bob").notes())
        print("deleted at Ann's wish:", memory.clear(), "notes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        talk(TUESDAY, sys.argv[1], "What shall I cook tonight?")
    else:
        main()
