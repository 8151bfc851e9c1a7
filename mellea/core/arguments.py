"""Arguments that aren't taken: what to write instead, with our name for what other libraries call something else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mellea.core.argument_names import ELSEWHERE, FOREIGN
from mellea.core.options import find_nearest_option
from mellea.errors import UsageError

__all__ = ["find_advice", "make_argument_error"]


def make_argument_error(
    what: str, name: str, taken: Collection[str], kind: str = "argument", ways: Mapping[str, str] | None = None
) -> UsageError:
    """Make the error for an argument that isn't taken.

    Args:
        what: the function that was called.
        name: the name of the argument.
        taken: the names that are taken.
        kind: the word for an argument: `"argument"` or `"option"`.
        ways: what to do instead about arguments that other functions take and this one doesn't.
    """
    return UsageError(f"{what} takes no {kind} {name!r}; {find_advice(name, taken, ways or {})}")


def find_advice(name: str, taken: Collection[str], ways: Mapping[str, str]) -> str:
    """Return what to write in place of an argument that isn't taken; see `make_argument_error`."""
    # From certain to likely: advice from the function itself, our own names, other libraries' names, then typos.
    ours = FOREIGN.get(name, name)
    named = f"it is {ours!r} here: " if name in FOREIGN else ""
    if ours in ways:
        return ways[ours]
    if ours in taken:
        return f"{named}{ours}=…"
    if ours in ELSEWHERE:
        return f"{named}{ELSEWHERE[ours]}"
    import difflib  # lazy: needed for typos only

    # The provider's own names change without us, so whatever isn't a typo may be one of them.
    if "options" in taken:
        near = difflib.get_close_matches(name, taken, n=1, cutoff=0.75)
        return f"did you mean {near[0]!r}?" if near else f"the provider's own options go into options={{{name!r}: …}}"
    # An exact option takes precedence over a similar argument: `temperature` is never a typo for something else.
    if (option := find_nearest_option(name, 1)) is not None:
        return _as_option(option, taken)
    # Arguments before options that are merely similar: they are fewer, and closer at hand. What isn't taken has to be
    # as similar as an option, since its advice doesn't name it: `ticket` is no typo for `strict`.
    similar = [*difflib.get_close_matches(name, taken), *difflib.get_close_matches(name, ways, cutoff=0.8)]
    if near := difflib.get_close_matches(name, similar, n=1):
        return ways.get(near[0], f"did you mean {near[0]!r}?")
    if (option := find_nearest_option(name, 0.8)) is not None:
        return _as_option(option, taken)
    options = "; model options go into model_options={…}" if "model_options" in taken else ""
    variables = "; values for {{placeholders}} go into user_variables={…}" if "user_variables" in taken else ""
    return f"it takes {', '.join(taken) or 'no others'}{options}{variables}"


def _as_option(option: str, taken: Collection[str]) -> str:
    if "model_options" in taken:
        return f"{option!r} is a model option: model_options={{{option!r}: …}}"
    return f"{option!r} is a model option: with mellea.options({option}=…), or start_session(…, model_options=…)"
