"""Checks whether a model can be reached, and why not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from mellea.core.backend import Request
from mellea.core.events import Event
from mellea.core.messages import user_message
from mellea.core.options import Deadlines, ModelOption
from mellea.core.results import Probe
from mellea.errors import MelleaError, NotFoundError

__all__ = ["PROBE_DEADLINES", "Probe", "probe"]

PROBE_DEADLINES = Deadlines(connect=5.0, first_byte=10.0, total=15.0)

_SHOWN = 5

_FEW = 16
"""Tokens of an answer that shows that the model answers; some providers reject a lower limit."""


async def probe(
    model: str, list_models: Callable[[], Awaitable[list[str]]], run: Callable[[Request], AsyncIterator[Event]]
) -> Probe:
    """Ask the server for its models, and look for this one among them; ask the model itself if there is no list.

    Args:
        model: the model.
        list_models: fetches the list.
        run: sends a request to the model.
    """
    try:
        models = await list_models()
    except NotFoundError:
        # Not every server has a list, and a wrong base_url has none either: only an answer tells which it is.
        return await _ask(run)
    except MelleaError as error:
        return Probe(False, str(error))
    if model in models:
        return Probe(True)
    import difflib  # lazy: only for a name that isn't in the list

    near = difflib.get_close_matches(model, models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(map(repr, models[:_SHOWN])) + (", …" if len(models) > _SHOWN else "")
    return Probe(False, f"the server has no model {model!r}; {hint}it has {shown or 'none at all'}")


async def _ask(run: Callable[[Request], AsyncIterator[Event]]) -> Probe:
    options = {str(ModelOption.MAX_NEW_TOKENS): _FEW}
    request = Request((user_message("Hi"),), options=options, deadlines=PROBE_DEADLINES)
    try:
        with anyio.move_on_after(PROBE_DEADLINES.total):
            async for _ in run(request):  # to its end, so that nothing is left open
                pass
            return Probe(True, "the server doesn't list its models, but the model answers")
    except MelleaError as error:
        return Probe(False, str(error))
    return Probe(False, f"the server can be reached, but the model didn't answer within {PROBE_DEADLINES.total:g} s")
