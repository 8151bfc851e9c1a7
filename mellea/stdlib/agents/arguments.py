"""The arguments of an agent's verbs, declared once."""

# The annotations are objects here, not texts: signatures and docstrings are made of them.

from typing import Annotated, Literal

from mellea.stdlib.verb import OptionArguments

__all__ = ["AgentArguments", "AgentStreamArguments"]


class AgentArguments(OptionArguments, total=False):
    """What every run of an agent takes."""


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
