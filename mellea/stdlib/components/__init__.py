"""The components that come with mellea: what prompts are rendered from.

May import: core, templates, stdlib.context, stdlib.tools. Read `instruction.py` first.
"""

from mellea.core.blocks import CBlock
from mellea.core.component import Component, TemplateRepresentation
from mellea.core.messages import Message
from mellea.stdlib.components.conversation import Conversation
from mellea.stdlib.components.document import Document
from mellea.stdlib.components.instruction import Instruction
from mellea.stdlib.components.methods import call_method, render_result
from mellea.stdlib.components.mobject import MObject, mify
from mellea.stdlib.components.object_view import get_tools
from mellea.stdlib.components.query import Query, Transform
from mellea.stdlib.components.repair import Correction, Repair
from mellea.stdlib.components.simple import SimpleComponent
from mellea.stdlib.components.table import Table
from mellea.stdlib.components.wording import as_component, render_messages

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
    "call_method",
    "get_tools",
    "mify",
    "render_messages",
    "render_result",
]
