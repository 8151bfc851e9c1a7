"""Use tools that run at the provider: web search by Anthropic, and by Vercel's AI Gateway, which has it for any model.

Run it: uv run docs/examples/provider_tools.py
Needs: no key; with ANTHROPIC_API_KEY or AI_GATEWAY_API_KEY the provider itself answers

Without a key, a server on this computer takes the provider's place, and streams events in the provider's format.
"""

from typing import Any

from recorded_provider import recorded

import mellea
from mellea import events, system_message, user_message
from mellea.backends.ai_gateway.tools import perplexity_search
from mellea.backends.anthropic.tools import web_search

MESSAGES = [system_message("Be concise."), user_message("When is high tide in Bergen today?")]


def search(m: mellea.MelleaSession, tool: Any) -> None:
    with m.stream(MESSAGES, tools=[tool]) as stream:
        for event in stream.events():
            if isinstance(event, events.BuiltinToolEnd):
                print("the provider ran", event.tool_call.tool_name, dict(event.tool_call.tool_args))
            elif isinstance(event, events.BuiltinToolResult):
                print("and found", [page["title"] for page in event.result.result])
            elif isinstance(event, events.TextDelta):
                print(repr(event.chunk))


if __name__ == "__main__":
    with recorded("ANTHROPIC_API_KEY") as address:
        search(mellea.start_session("anthropic/claude-sonnet-4", **address), web_search(max_uses=3))
    # The gateway passes what it found to the model only, so there is no result to print.
    with recorded("AI_GATEWAY_API_KEY", "/v1") as address:
        search(mellea.start_session("ai_gateway/openai/gpt-5", **address), perplexity_search(max_results=5))
