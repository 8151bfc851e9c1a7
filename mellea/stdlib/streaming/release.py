"""What has to be right before a call is made whose text is looked at, or let out, while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.core.chunkers import SCOPES, Scope
from mellea.core.requirement import Requirement
from mellea.core.sampling import SamplingStrategy
from mellea.errors import UsageError
from mellea.stdlib.call import Call

__all__ = ["check_release"]


def check_release(release: Scope, call: Call, strategy: SamplingStrategy, requirements: Sequence[Requirement]) -> None:
    """Refuse what can't go with letting chunks out as they pass.

    Raises:
        UsageError: there is no such scope, a requirement doesn't look at such chunks, or the strategy doesn't make
            one attempt after the other, or the answer is made of several.
    """
    if release not in SCOPES:
        raise UsageError(f"release is one of {', '.join(map(repr, SCOPES))}, not {release!r}")
    if call.loop is not None:
        raise UsageError(
            f"release={release!r} can't go with tool_calls='run', where the answer is made of several and a next "
            "attempt can't go on in the middle; leave one of them out"
        )
    for requirement in requirements:
        if not requirement.is_streaming or requirement.scope != release:
            raise UsageError(
                f"release={release!r} lets text out as soon as every requirement has passed it, so each has to look "
                f"at such chunks; {str(requirement)!r} "
                + (f"looks at a {requirement.scope}" if requirement.is_streaming else "only checks complete outputs")
                + f": give it a stream_validation_fn and scope={release!r}, or leave out release="
            )
    if not getattr(strategy, "is_sequential", False):
        raise UsageError(
            f"release={release!r} takes a strategy that makes one attempt after the other and goes on from what was "
            f"let out, such as RejectionSamplingStrategy() or RepairTemplateStrategy(), not {strategy!r}"
        )
