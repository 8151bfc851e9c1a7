"""Another library's agent, measured in a process of its own: `PYTHON benchmarks/agent_peer.py PEER STEPS TOOLS`.

Any Python may run it that has the peer installed, so it imports nothing of this project. The model is a function, the
same in each library's own words: it calls one of the tools in each step but the last. It says `ready`, or what is
missing; then, for each line that it reads, it runs the agent once, and prints the seconds of CPU that this took and how
many times the model was asked.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from collections.abc import Awaitable, Callable
from time import process_time
from typing import Any

PEERS = {"pydantic-ai": "pydantic-ai-slim", "openai-agents": "openai-agents"}
"""What each peer is called in the registry."""

Work = Callable[[], Awaitable[str]]


def make_tool(number: int) -> Callable[..., Any]:
    async def work(x: int, note: str = "") -> int:
        """Return the number.

        Args:
            x: the number.
            note: a note.
        """
        return x

    work.__name__ = f"tool{number}"
    return work


class Asked:
    """How often the model was asked."""

    def __init__(self, steps: int, tools: int) -> None:
        self.steps, self.tools, self.times = steps, tools, 0

    def next(self) -> tuple[str, tuple[str, str, dict[str, int]] | None]:
        """Return the text of the next step, and its call: an id, a tool and arguments."""
        number, self.times = self.times, self.times + 1
        if number == self.steps - 1:
            return "Done.", None
        return f"Step {number}. ", (f"c{number}", f"tool{number % self.tools}", {"x": number})


def make_pydantic_ai(asked: Asked) -> Work:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.usage import UsageLimits

    def answer(messages: Any, info: Any) -> ModelResponse:
        text, call = asked.next()
        parts: list[Any] = [TextPart(text)]
        return ModelResponse(parts if call is None else [*parts, ToolCallPart(call[1], call[2], call[0])])

    agent = Agent(FunctionModel(answer), tools=[make_tool(number) for number in range(asked.tools)])

    async def work() -> str:
        return (await agent.run("Go.", usage_limits=UsageLimits(request_limit=None))).output

    return work


def make_openai_agents(asked: Asked) -> Work:
    from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    set_tracing_disabled(True)

    class Scripted(Model):
        async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
            text, call = asked.next()
            said = ResponseOutputText(text=text, type="output_text", annotations=[])
            items: list[Any] = [
                ResponseOutputMessage(
                    id=f"m{asked.times}", content=[said], role="assistant", status="completed", type="message"
                )
            ]
            if call is not None:
                arguments = json.dumps(call[2])
                items.append(
                    ResponseFunctionToolCall(call_id=call[0], name=call[1], arguments=arguments, type="function_call")
                )
            return ModelResponse(output=items, usage=Usage(), response_id=None)

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    tools: list[Any] = [function_tool(make_tool(number)) for number in range(asked.tools)]
    agent = Agent(name="peer", model=Scripted(), tools=tools)

    async def work() -> str:
        return str((await Runner.run(agent, "Go.", max_turns=asked.steps + 1)).final_output)

    return work


async def serve(work: Work, asked: Asked) -> None:
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        asked.times, before = 0, process_time()
        answer = await work()
        seconds = process_time() - before
        assert answer == "Done.", answer
        print(seconds, asked.times, flush=True)


if __name__ == "__main__":
    name, steps, tools = sys.argv[1:]
    try:
        importlib.metadata.version(PEERS[name])
    except importlib.metadata.PackageNotFoundError:
        print(f"{PEERS[name]} isn't installed", flush=True)
        sys.exit()
    asked = Asked(int(steps), int(tools))
    make = make_pydantic_ai if name == "pydantic-ai" else make_openai_agents
    asyncio.run(serve(make(asked), asked))
