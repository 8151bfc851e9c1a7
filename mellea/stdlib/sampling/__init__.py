"""Sampling strategies: ways to come to an output that meets its requirements.

May import: core, stdlib.requirements and what is below it. Read `rejection.py` first.
"""

from mellea.core.sampling import Attempt, Sampler, SamplingResult, SamplingStrategy
from mellea.stdlib.sampling.budget_forcing import BudgetForcingStrategy
from mellea.stdlib.sampling.rejection import MultiTurnStrategy, RejectionSamplingStrategy, RepairTemplateStrategy
from mellea.stdlib.sampling.several import BestOfNStrategy, MajorityVotingStrategy
from mellea.stdlib.sampling.sofai import SOFAIStrategy

__all__ = [
    "Attempt",
    "BestOfNStrategy",
    "BudgetForcingStrategy",
    "MajorityVotingStrategy",
    "MultiTurnStrategy",
    "RejectionSamplingStrategy",
    "RepairTemplateStrategy",
    "SOFAIStrategy",
    "Sampler",
    "SamplingResult",
    "SamplingStrategy",
]
