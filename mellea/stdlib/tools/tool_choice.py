"""Checks a `tool_choice` against the tools of a call."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from mellea.errors import UsageError
from mellea.stdlib.tools.tool import CheckedTool
from mellea.stdlib.tools.tool_set import ToolSet

__all__ = ["check_choice"]


def check_choice(choice: str | Sequence[str] | None, tools: Sequence[CheckedTool]) -> None:
    """Reject a `tool_choice` with unknown tools; with sets, once they have been loaded.

    Raises:
        UsageError: it does.
    """
    if choice is None or choice in ("auto", "required", "none"):
        return
    names = [tool.name for tool in tools if not isinstance(tool, ToolSet)]
    # A set's tools are only known once it is loaded, so the name may still turn up.
    if len(names) < len(tools):
        return
    unknown = next((name for name in ([choice] if isinstance(choice, str) else choice) if name not in names), None)
    if unknown is None:
        return
    near = difflib.get_close_matches(unknown, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the tools are {', '.join(map(repr, names))}"
    what = f"{choice!r} is" if isinstance(choice, str) else f"{choice!r} has {unknown!r}, which is"
    raise UsageError(f"tool_choice={what} not one of the call's tools; {hint}")
