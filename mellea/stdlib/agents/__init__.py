"""Agents: a model with tools that works in steps until it has an answer."""

# May import: everything below, but not `stdlib.generative`. Read `agent.py` first, then `task.py`.

from mellea.stdlib.agents.agent import Agent
from mellea.stdlib.agents.conversation import AgentConversation
from mellea.stdlib.agents.limits import Limits
from mellea.stdlib.agents.memory import Memory, Note
from mellea.stdlib.agents.pending import Pending
from mellea.stdlib.agents.prepare import chain, react, warn_near_limit
from mellea.stdlib.agents.result import AgentRun, AgentStep
from mellea.stdlib.agents.router import Router
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream

__all__ = [
    "Agent",
    "AgentConversation",
    "AgentRun",
    "AgentStep",
    "AgentStream",
    "AsyncAgentStream",
    "Limits",
    "Memory",
    "Note",
    "Pending",
    "Router",
    "chain",
    "react",
    "warn_near_limit",
]
