"""The arguments of an agent's verbs, declared once."""

# The annotations are objects here, not strings, because signatures and docstrings are made from them.

import os
from typing import Annotated, Literal

from mellea.stdlib.agents.keeper import Checkpoint
from mellea.stdlib.agents.memory import Memory
from mellea.stdlib.verb import OptionArguments

__all__ = ["EARLIER_TURNS", "AgentArguments", "AgentStreamArguments"]

EARLIER_TURNS = "agent.conversation(messages=[…]) goes on from earlier messages: conversation.send(…)"
"""What to do instead of giving a run its history, for the verbs of an agent."""


class AgentArguments(OptionArguments, total=False):
    """The arguments of every run of an agent."""

    memory: Annotated[
        Memory | None,
        "the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks; "
        "sub-agents with a memory in the same file then use that user's as well.",
    ]
    checkpoint: Annotated[
        Checkpoint | None,
        "a file that always has the latest state of the run, or a function that is called with it as a `Pending`: "
        "after each response of the model, after each finished tool, and when the run has to wait. `resume` "
        "continues from it.",
    ]
    secret: Annotated[
        str | bytes | None,
        "signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else "
        "`MELLEA_SECRET` from the environment.",
    ]
    store: Annotated[
        str | os.PathLike[str] | None,
        "an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.",
    ]


class AgentStreamArguments(AgentArguments, total=False):
    """The arguments of an agent's streams."""

    live: Annotated[
        bool,
        "yield the text of every step as it is written, each chunk with its step, then an empty final chunk; without "
        "it, only the chunks of the answer, once its step is complete.",
        False,
    ]
    chunk_size: Annotated[
        int | None,
        "the length of a chunk in characters as a reader sees them (graphemes); by default chunks are the "
        "provider's deltas.",
    ]
    release: Annotated[
        Literal["step"] | None, '`"step"` holds items and partials back until the step that answers has ended.'
    ]
