"""Checks whether a model can be reached, and why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mellea.core.options import Deadlines
from mellea.core.results import Probe
from mellea.errors import MelleaError, NotFoundError

__all__ = ["PROBE_DEADLINES", "Probe", "probe"]

PROBE_DEADLINES = Deadlines(connect=5.0, first_byte=10.0, total=15.0)

_SHOWN = 5


async def probe(model: str, list_models: Callable[[], Awaitable[list[str]]]) -> Probe:
    """Ask the server for its models, and look for this one among them."""
    try:
        models = await list_models()
    except NotFoundError:
        return Probe(True, "the server can be reached, but doesn't list its models")
    except MelleaError as error:
        return Probe(False, str(error))
    if model in models:
        return Probe(True)
    import difflib  # lazy: only for a name that isn't in the list

    near = difflib.get_close_matches(model, models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(map(repr, models[:_SHOWN])) + (", …" if len(models) > _SHOWN else "")
    return Probe(False, f"the server has no model {model!r}; {hint}it has {shown or 'none at all'}")
