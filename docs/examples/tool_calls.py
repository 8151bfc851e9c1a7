"""Tools without an agent: the stream shows which calls the model wants, and the program runs them itself.

Run it: uv run docs/examples/tool_calls.py
Needs: no model; a script stands in for it, unless MELLEA_MODEL names one

A real model writes the same kinds of events, with its own words and calls.
"""

import asyncio
import os

import mellea
from mellea import Message, events, system_message, user_message
from mellea.core import ToolCall, ToolOutput
from mellea.testing import ScriptedBackend
from mellea.tools import tool


@tool
def mothership_status(ship: str) -> str:
    """Ask for the status of a ship.

    Args:
        ship: its name.
    """
    return f"{ship} is in orbit, and hungry."


def script() -> ScriptedBackend:
    call = ToolCall("c1", "mothership_status", {"ship": "Nimbus"})
    ask = [
        events.TextDelta("Let me ask. "),
        events.ToolStart("c1", "mothership_status"),
        events.ToolDelta("c1", '{"ship": "Nimbus"}'),
        events.ToolEnd(call),
    ]
    return ScriptedBackend(ask, ["Nimbus is in orbit. ", "Bring sandwiches."])


async def main() -> None:
    m = mellea.start_session() if os.environ.get("MELLEA_MODEL") else mellea.start_session(script())
    messages: list[Message] = [system_message("Be concise."), user_message("How is the Nimbus?")]
    while True:
        async with m.astream(messages, tools=[mothership_status]) as stream:  # tool_calls="run" would run them, too
            async for event in stream.events():
                match event:
                    case events.TextDelta(chunk):
                        print(chunk, end="", flush=True)
                    case events.ToolDelta(_, chunk):
                        print(f"[{chunk}]", end="", flush=True)
                    case events.ToolEnd(call):
                        print(f"\nthe model wants {call.tool_name}({dict(call.tool_args)})")
        if not stream.message.tool_calls:
            break
        messages.append(stream.message)
        for call in stream.message.tool_calls:
            print("run it? The program decides: yes")
            result = mothership_status(**call.tool_args)
            messages.append(Message("tool", ToolOutput(call.tool_call_id, call.tool_name, result)))
    print(f"\n{len(messages)} messages, and the answer: {stream.text!r}")


if __name__ == "__main__":
    asyncio.run(main())
