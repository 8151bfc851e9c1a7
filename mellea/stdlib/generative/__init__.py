"""Functions that a model answers: `@generative`, `@command`, and `ask`."""

# May import: everything below it, stdlib.session first of all. Read `function.py` first.

from mellea.stdlib.generative.ask import aask, ask
from mellea.stdlib.generative.command import command
from mellea.stdlib.generative.function import AsyncPromptFunction, PromptFunction
from mellea.stdlib.generative.generative import generative
from mellea.stdlib.generative.items import AsyncItemStream, ItemStream

__all__ = [
    "AsyncItemStream",
    "AsyncPromptFunction",
    "ItemStream",
    "PromptFunction",
    "aask",
    "ask",
    "command",
    "generative",
]
