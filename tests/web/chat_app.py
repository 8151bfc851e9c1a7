"""An application with the chat page, whose model does what the message says; for the browser."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

import mellea
from mellea import serve
from mellea.core.blocks import Source
from mellea.core.messages import parse_tool_call
from mellea.events import ReasoningDelta, SourceEvent, ToolDelta, ToolEnd, ToolStart
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Gate, Pause

__all__ = ["MARKDOWN", "NASTY", "ChatApp"]

MARKDOWN = """\
# Bread

Mix **flour**, *water* and `salt`.

1. Knead it
2. Let it rest
   - an hour is fine
   - a night is better

> Patience is an ingredient.

| flour | water |
|---|---|
| 500 g | 320 g |

```python
print("1 < 2 & <b>bold</b>")
```

See [a baker](https://example.test/bread).
"""

NASTY = """\
<script>window.attacked = 1</script> <img src=x onerror="window.attacked = 2">

[a link](javascript:window.attacked=3) ![an image](https://example.test/track.png)

**<b onclick=alert(1)>bold</b>** `</code><script>window.attacked = 4</script>`
"""


class Recipe(BaseModel):
    title: str
    minutes: int
    ingredients: list[str]


RECIPE = '{"title":"Flat bread","minutes":40,"ingredients":["flour","water","salt"]}'


def _words(text: str, pause: float = 0.01) -> list[Any]:
    return [step for word in text.split(" ") for step in (f"{word} ", Pause(pause))]


def _call(name: str, args: str) -> list[Any]:
    halves = [ToolDelta("c1", args[: len(args) // 2]), Pause(0.05), ToolDelta("c1", args[len(args) // 2 :])]
    return [ToolStart("c1", name), *halves, ToolEnd(parse_tool_call("c1", name, args))]


class ChatApp:
    """The application; `gate` lets the slow answer go on."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.done: list[str] = []

        @mellea.tool(requires_approval=True)
        def delete_file(path: str) -> str:
            """Delete a file."""
            self.done.append(path)
            return f"{path} is gone"

        def weather(city: str) -> dict[str, Any]:
            """Look up the weather."""
            return {"city": city, "sky": "rain"}

        self.cleaner = self._agent(
            [delete_file], ["I have to delete a file. ", *_call("delete_file", '{"path":"/tmp/x"}')]
        )
        self.forecaster = self._agent([weather], [*_call("weather", '{"city":"Bergen"}')])
        self.chat = serve.Chat(self._choose, version=7, shows_attempts=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app = serve.chat_page("Kitchen helper") if scope["path"] == "/" else self.chat
        await app(scope, receive, send)

    def _agent(self, tools: list[Any], first: list[Any]) -> mellea.Agent[str]:
        last = ["It is ", Pause(0.05), "done."]
        backend = ScriptedBackend(lambda request: last if request.messages[-1].role == "tool" else first)
        return mellea.Agent(mellea.start_session(backend), tools)

    def _choose(self, asked: serve.ChatRequest) -> Any:
        said = next(message.text for message in reversed(asked.messages) if message.role == "user")
        script: list[Any] = {
            "slow": [*_words("one two three"), self.gate, *_words("four five")],
            "markdown": [*_words(MARKDOWN)],
            "nasty": [NASTY],
            "think": [ReasoningDelta("Let me "), Pause(0.05), ReasoningDelta("see."), "Yes."],
            "fail": ["Half an ", Pause(0.05), ValueError("broken")],
            "sources": ["It is so.", SourceEvent(Source("https://example.test/a", "A book"))],
        }.get(said, [f"You said: {said}"])
        m = mellea.start_session(ScriptedBackend(script))
        if said == "delete":
            return self.cleaner
        if said == "weather":
            return self.forecaster
        if said == "attempts":
            m = mellea.start_session(ScriptedBackend(_words("A bad answer."), _words("A good answer.")))
            good = req("has to be good", validation_fn=simple_validate(lambda text: "good" in text))
            return m.astream("x", requirements=[good], strategy=RejectionSamplingStrategy(loop_budget=2))
        return m.astream("x")


class TypedApp(ChatApp):
    """Answers with a recipe."""

    def __init__(self) -> None:
        super().__init__()
        pieces = [step for start in range(0, len(RECIPE), 8) for step in (RECIPE[start : start + 8], Pause(0.03))]

        def write(asked: serve.ChatRequest) -> Any:
            return mellea.start_session(ScriptedBackend(pieces)).astream("x", format=Recipe)

        self.chat = serve.Chat(write, version=7, data="recipe")
