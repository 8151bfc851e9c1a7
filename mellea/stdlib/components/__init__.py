"""The components that come with mellea: what is said to a model.

May import: core, templates, stdlib.context. Read `instruction.py` first.
"""

from mellea.core.messages import Message
from mellea.stdlib.components.again import Correction, Repair
from mellea.stdlib.components.conversation import Conversation
from mellea.stdlib.components.instruction import Instruction
from mellea.stdlib.components.wording import as_component, messages_of

__all__ = [
    "Conversation",
    "Correction",
    "Instruction",
    "Message",
    "Repair",
    "as_component",
    "messages_of",
]
