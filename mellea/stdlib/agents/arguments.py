"""The arguments of an agent's verbs, declared once."""

# The annotations are objects here, not texts: signatures and docstrings are made of them.

import os
from typing import Annotated, Literal

from mellea.stdlib.agents.keeper import Checkpoint
from mellea.stdlib.agents.memory import Memory
from mellea.stdlib.verb import OptionArguments

__all__ = ["AgentArguments", "AgentStreamArguments"]


class AgentArguments(OptionArguments, total=False):
    """What every run of an agent takes."""

    memory: Annotated[
        Memory | None,
        "what the agent remembers in this run in place of its own memory, as `memory.of(user)` of the user who asks; "
        "sub-agents with a memory in the same file remember about the same user.",
    ]
    checkpoint: Annotated[
        Checkpoint | None,
        "a file that always has the latest state of the run, or a function that is called with it as a `Pending`: "
        "after each answer of the model, after each finished tool, and when the run has to wait. `resume` goes on from "
        "it.",
    ]
    secret: Annotated[
        str | bytes | None,
        "signs the states of the run, so that `resume` refuses changed ones; by default the agent's, else that of "
        "`MELLEA_SECRET` in the environment.",
    ]
    store: Annotated[
        str | os.PathLike[str] | None,
        "an SQLite file where states are noted that were resumed, so that none is resumed twice; by default the "
        "agent's.",
    ]


class AgentStreamArguments(AgentArguments, total=False):
    """What the streams of an agent take."""

    live: Annotated[
        bool,
        "give the text of every step as it is written, each chunk with its step, then an empty final chunk; without it "
        "the chunks are those of the answer alone, once it has been read whole.",
        False,
    ]
    chunk_size: Annotated[
        int | None,
        "the length of a chunk in characters as a reader sees them (graphemes); by default the chunks are as the "
        "provider sends them.",
    ]
    release: Annotated[
        Literal["step"] | None, '`"step"` holds items and partials back until the step that answers has ended.'
    ]
