"""Agents: a model with tools that works in steps until it has an answer.

May import: everything below, but not `stdlib.generative`. Read `pending.py` first.
"""

from mellea.stdlib.agents.keeper import StateKeeper
from mellea.stdlib.agents.pending import Pending

__all__ = ["Pending", "StateKeeper"]
