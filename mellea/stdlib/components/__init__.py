"""The components that come with mellea: what prompts are rendered from."""

# May import: core, templates, stdlib.context, stdlib.tools. Read `instruction.py` first.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.core.blocks import CBlock as CBlock
    from mellea.core.component import Component as Component
    from mellea.core.component import TemplateRepresentation as TemplateRepresentation
    from mellea.core.component import as_component as as_component
    from mellea.core.messages import Message as Message
    from mellea.stdlib.components.conversation import Conversation as Conversation
    from mellea.stdlib.components.conversation import as_message as as_message
    from mellea.stdlib.components.document import Document as Document
    from mellea.stdlib.components.instruction import Instruction as Instruction
    from mellea.stdlib.components.mobject import MObject as MObject
    from mellea.stdlib.components.mobject import mify as mify
    from mellea.stdlib.components.object_view import get_tools as get_tools
    from mellea.stdlib.components.query import Query as Query
    from mellea.stdlib.components.query import Transform as Transform
    from mellea.stdlib.components.query import call_method as call_method
    from mellea.stdlib.components.query import render_result as render_result
    from mellea.stdlib.components.repair import Correction as Correction
    from mellea.stdlib.components.repair import Repair as Repair
    from mellea.stdlib.components.simple import SimpleComponent as SimpleComponent
    from mellea.stdlib.components.table import Table as Table
    from mellea.templates.render import render_messages as render_messages

__all__ = [
    "CBlock",
    "Component",
    "Conversation",
    "Correction",
    "Document",
    "Instruction",
    "MObject",
    "Message",
    "Query",
    "Repair",
    "SimpleComponent",
    "Table",
    "TemplateRepresentation",
    "Transform",
    "as_component",
    "as_message",
    "call_method",
    "get_tools",
    "mify",
    "render_messages",
    "render_result",
]

__getattr__ = lazily(
    __name__,
    {
        "CBlock": "mellea.core.blocks",
        "Component": "mellea.core.component",
        "Conversation": "mellea.stdlib.components.conversation",
        "Correction": "mellea.stdlib.components.repair",
        "Document": "mellea.stdlib.components.document",
        "Instruction": "mellea.stdlib.components.instruction",
        "MObject": "mellea.stdlib.components.mobject",
        "Message": "mellea.core.messages",
        "Query": "mellea.stdlib.components.query",
        "Repair": "mellea.stdlib.components.repair",
        "SimpleComponent": "mellea.stdlib.components.simple",
        "Table": "mellea.stdlib.components.table",
        "TemplateRepresentation": "mellea.core.component",
        "Transform": "mellea.stdlib.components.query",
        "as_component": "mellea.core.component",
        "as_message": "mellea.stdlib.components.conversation",
        "call_method": "mellea.stdlib.components.query",
        "get_tools": "mellea.stdlib.components.object_view",
        "mify": "mellea.stdlib.components.mobject",
        "render_messages": "mellea.templates.render",
        "render_result": "mellea.stdlib.components.query",
    },
)
