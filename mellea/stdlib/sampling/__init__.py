"""Sampling strategies: ways to come to an output that meets its requirements.

May import: core, stdlib.requirements and what is below it. Read `rejection.py` first.
"""

from mellea.core.sampling import Attempt, SamplingResult, SamplingStrategy
from mellea.stdlib.sampling.rejection import RejectionSamplingStrategy

__all__ = ["Attempt", "RejectionSamplingStrategy", "SamplingResult", "SamplingStrategy"]
