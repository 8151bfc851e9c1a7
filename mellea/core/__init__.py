"""Values and state machines: blocks, messages, options, events, the fold, runs, thunks. No I/O."""

# May import: errors. Read `events.py` first, then `thunk.py`.

from mellea._lazy_exports import lazily
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import Backend, BuiltinTool, Capabilities, OutputSchema, Request, ToolExample, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.chunkers import Chunk
from mellea.core.component import Component, TemplateRepresentation
from mellea.core.context import Context, Turn
from mellea.core.events import Event, Usage
from mellea.core.messages import Message
from mellea.core.options import Deadlines, ModelOption
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.sampling import Attempt, Sampler, SamplingResult, SamplingStrategy
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk

__all__ = [
    "Accumulator",
    "Attempt",
    "Backend",
    "BuiltinTool",
    "CBlock",
    "Capabilities",
    "Chunk",
    "Component",
    "ComputedModelOutputThunk",
    "Context",
    "Deadlines",
    "Event",
    "FileBlock",
    "Generation",
    "ImageBlock",
    "Message",
    "ModelOption",
    "ModelOutputThunk",
    "OutputSchema",
    "Request",
    "Requirement",
    "Sampler",
    "SamplingResult",
    "SamplingStrategy",
    "Source",
    "TemplateRepresentation",
    "ThinkingBlock",
    "ToolCall",
    "ToolExample",
    "ToolOutput",
    "ToolSpec",
    "Turn",
    "Usage",
    "ValidationResult",
]

__getattr__ = lazily(__name__, {})  # for names of Mellea 0.8 alone: ours are all there
