"""Sampling strategies: how attempts are made until an output meets its requirements."""

# May import: core, stdlib.requirements and what is below it. Read `rejection.py` first.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.core.sampling import Attempt as Attempt
    from mellea.core.sampling import Sampler as Sampler
    from mellea.core.sampling import SamplingResult as SamplingResult
    from mellea.core.sampling import SamplingStrategy as SamplingStrategy
    from mellea.stdlib.sampling.budget_forcing import BudgetForcingStrategy as BudgetForcingStrategy
    from mellea.stdlib.sampling.rejection import MultiTurnStrategy as MultiTurnStrategy
    from mellea.stdlib.sampling.rejection import RejectionSamplingStrategy as RejectionSamplingStrategy
    from mellea.stdlib.sampling.rejection import RepairTemplateStrategy as RepairTemplateStrategy
    from mellea.stdlib.sampling.several import BestOfNStrategy as BestOfNStrategy
    from mellea.stdlib.sampling.several import MajorityVotingStrategy as MajorityVotingStrategy
    from mellea.stdlib.sampling.two_solvers import SOFAIStrategy as SOFAIStrategy

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

__getattr__ = lazily(
    __name__,
    {
        "Attempt": "mellea.core.sampling",
        "BestOfNStrategy": "mellea.stdlib.sampling.several",
        "BudgetForcingStrategy": "mellea.stdlib.sampling.budget_forcing",
        "MajorityVotingStrategy": "mellea.stdlib.sampling.several",
        "MultiTurnStrategy": "mellea.stdlib.sampling.rejection",
        "RejectionSamplingStrategy": "mellea.stdlib.sampling.rejection",
        "RepairTemplateStrategy": "mellea.stdlib.sampling.rejection",
        "SOFAIStrategy": "mellea.stdlib.sampling.two_solvers",
        "Sampler": "mellea.core.sampling",
        "SamplingResult": "mellea.core.sampling",
        "SamplingStrategy": "mellea.core.sampling",
    },
)
