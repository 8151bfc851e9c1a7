"""Let an agent take notes in one conversation, and use them in the next one, in another process.

Run it: uv run docs/examples/memory.py
Needs: no model; a script stands in for it, unless MELLEA_MODEL names one

The embedded model is too small to take notes well. A bigger one decides for itself what is worth a note.
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
    match sys.argv[1:]:
        case []:
            main()
        case [file] if file.endswith(".db"):
            talk(TUESDAY, file, "What shall I cook tonight?")
        case others:
            sys.exit(f"memory.py takes no arguments, or the path of a .db file, not {others}")
