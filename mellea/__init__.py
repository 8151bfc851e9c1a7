"""mellea: generative programs, in which some values are written by a language model.

m = mellea.start_session("provider/model") starts a session, and m.instruct("…").value is an answer. The documentation
comes with the package: `mellea docs` shows it (with the extra `cli`), and the folder `docs` in the package has it as
Markdown; tutorial.md and providers.md are where to begin.

Every name is loaded at its first use; importing starts no thread and opens nothing.
"""

# The front door. May import: everything below it, lazily. Read `stdlib/session/session.py` first.

import os
from importlib import import_module
from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea._saved_kinds import register_kind
from mellea._version import __version__ as __version__

if TYPE_CHECKING:
    from mellea import errors as errors
    from mellea import evaluation as evaluation
    from mellea import events as events
    from mellea import mfuncs as mfuncs
    from mellea import notebook as notebook
    from mellea import prices as prices
    from mellea import serve as serve
    from mellea import telemetry as telemetry
    from mellea import tools as tools
    from mellea import traces as traces
    from mellea.backends.registry import get_backend as get_backend
    from mellea.batch import Budget as Budget
    from mellea.batch import RateLimits as RateLimits
    from mellea.batch import amap as amap
    from mellea.batch import map as map
    from mellea.core.backend import Backend as Backend
    from mellea.core.blocks import CBlock as CBlock
    from mellea.core.blocks import FileBlock as FileBlock
    from mellea.core.blocks import ImageBlock as ImageBlock
    from mellea.core.gather import gather as gather
    from mellea.core.gather import resolve as resolve
    from mellea.core.messages import Message as Message
    from mellea.core.messages import assistant_message as assistant_message
    from mellea.core.messages import system_message as system_message
    from mellea.core.messages import user_message as user_message
    from mellea.core.observer import Observer as Observer
    from mellea.core.observer import observe as observe
    from mellea.core.options import Deadlines as Deadlines
    from mellea.core.options import ModelOption as ModelOption
    from mellea.core.options import options as options
    from mellea.core.thunk import ComputedModelOutputThunk as ComputedModelOutputThunk
    from mellea.core.thunk import ModelOutputThunk as ModelOutputThunk
    from mellea.core.tracing import trace as trace
    from mellea.errors import MelleaError as MelleaError
    from mellea.evaluation import aevaluate as aevaluate
    from mellea.evaluation import evaluate as evaluate
    from mellea.stdlib.agents import Agent as Agent
    from mellea.stdlib.components import mify as mify
    from mellea.stdlib.context import ChatContext as ChatContext
    from mellea.stdlib.context import SimpleContext as SimpleContext
    from mellea.stdlib.generative import aask as aask
    from mellea.stdlib.generative import ask as ask
    from mellea.stdlib.generative import command as command
    from mellea.stdlib.generative import generative as generative
    from mellea.stdlib.session import MelleaSession as MelleaSession
    from mellea.stdlib.session import start_session as start_session
    from mellea.stdlib.streaming import StreamChunk as StreamChunk
    from mellea.stdlib.tools import tool as tool


# A name and the module it comes from; a name without one is a module itself.
_HOMES = {
    "Agent": "mellea.stdlib.agents",
    "Backend": "mellea.core.backend",
    "Budget": "mellea.batch",
    "CBlock": "mellea.core.blocks",
    "ChatContext": "mellea.stdlib.context",
    "ComputedModelOutputThunk": "mellea.core.thunk",
    "Deadlines": "mellea.core.options",
    "FileBlock": "mellea.core.blocks",
    "ImageBlock": "mellea.core.blocks",
    "MelleaError": "mellea.errors",
    "MelleaSession": "mellea.stdlib.session",
    "Message": "mellea.core.messages",
    "ModelOption": "mellea.core.options",
    "ModelOutputThunk": "mellea.core.thunk",
    "Observer": "mellea.core.observer",
    "RateLimits": "mellea.batch",
    "SimpleContext": "mellea.stdlib.context",
    "StreamChunk": "mellea.stdlib.streaming",
    "aask": "mellea.stdlib.generative",
    "aevaluate": "mellea.evaluation",
    "amap": "mellea.batch",
    "ask": "mellea.stdlib.generative",
    "assistant_message": "mellea.core.messages",
    "command": "mellea.stdlib.generative",
    "errors": "",
    "evaluate": "mellea.evaluation",
    "evaluation": "",
    "events": "",
    "gather": "mellea.core.gather",
    "generative": "mellea.stdlib.generative",
    "get_backend": "mellea.backends.registry",
    "map": "mellea.batch",
    "mfuncs": "",
    "mify": "mellea.stdlib.components",
    "notebook": "",
    "observe": "mellea.core.observer",
    "options": "mellea.core.options",
    "prices": "",
    "resolve": "mellea.core.gather",
    "serve": "",
    "start_session": "mellea.stdlib.session",
    "system_message": "mellea.core.messages",
    "telemetry": "",
    "tool": "mellea.stdlib.tools",
    "tools": "",
    "trace": "mellea.core.tracing",
    "traces": "",
    "user_message": "mellea.core.messages",
}

# `Budget`, `RateLimits`, `amap` and `map` aren't here: `from mellea import *` leaves Python's own `map` alone.
__all__ = [
    "Agent",
    "Backend",
    "CBlock",
    "ChatContext",
    "ComputedModelOutputThunk",
    "Deadlines",
    "FileBlock",
    "ImageBlock",
    "MelleaError",
    "MelleaSession",
    "Message",
    "ModelOption",
    "ModelOutputThunk",
    "Observer",
    "SimpleContext",
    "StreamChunk",
    "aask",
    "ask",
    "assistant_message",
    "command",
    "errors",
    "events",
    "gather",
    "generative",
    "get_backend",
    "mfuncs",
    "mify",
    "observe",
    "options",
    "prices",
    "resolve",
    "serve",
    "start_session",
    "system_message",
    "telemetry",
    "tool",
    "tools",
    "trace",
    "traces",
    "user_message",
]


__getattr__ = lazily(__name__, _HOMES)

register_kind("chat_context", "mellea.stdlib.components.saved_context")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


if os.environ.get("MELLEA_TELEMETRY"):
    import_module("mellea.telemetry").enable_from_environment()
if os.environ.get("MELLEA_TRACES", "").strip().lower() not in ("", "0", "off", "none"):
    import_module("mellea.telemetry.recorder").record_from_environment()
