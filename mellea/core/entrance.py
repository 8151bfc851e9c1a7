"""Entrances of functions that programs call: arguments are checked, and tracebacks are shortened.

Rules:

- A function is wrapped once. Another wrapper, such as that of a synchronous verb, calls the inner function and does
  both itself.
- Only names and number of the arguments are checked; the function checks their values.
- The entrance catches an error, calls `shorten`, and re-raises it with a bare `raise`, which adds no frame.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any, TypeVar, cast

from mellea.core.arguments import make_argument_error
from mellea.core.declaration import document
from mellea.core.tracebacks import shorten
from mellea.errors import UsageTypeError

__all__ = ["ArgumentCheck", "entrance", "inside", "short_errors", "unwrap_entrance", "wrap_entrance"]

F = TypeVar("F", bound=Callable[..., Any])

Check = Callable[[Sequence[Any], Mapping[str, Any]], None]

_ENTRANCES = frozenset({"__init__", "__call__", "__enter__", "__aenter__", "__iter__", "__aiter__"})


def entrance(what: str, arguments: type | None = None, /, **ways: str) -> Callable[[F], F]:
    """Create a decorator for functions that programs call: it checks arguments and shortens tracebacks.

    On a class it wraps `__init__`; on a dataclass it is above `@dataclass`.

    Args:
        what: what errors call the function.
        arguments: the dict that declares what the function takes as `**arguments`, if it does.
        ways: advice on arguments that other functions take and this one doesn't.
    """

    def decorate(function: F) -> F:
        if isinstance(function, type):
            cls: Any = function
            cls.__init__ = wrap_entrance(cls.__init__, ArgumentCheck(what, cls.__init__, ways=ways))
            return function
        # From the annotations, so that a new key is accepted as soon as it is declared.
        declared = () if arguments is None else arguments.__annotations__
        wrapped = cast("F", wrap_entrance(function, ArgumentCheck(what, function, declared, ways)))
        return wrapped if arguments is None else document(arguments)(wrapped)

    return decorate


def short_errors(entrance: F) -> F:
    """Decorate a function or a class that programs call, so that errors leave it with a short traceback.

    In a class it wraps the public methods and properties, and the special methods that create, call, enter and
    iterate instances; not those that take a step, which have to be fast.
    """
    if isinstance(entrance, type):
        for name, value in list(vars(entrance).items()):
            if inspect.isfunction(value) and (not name.startswith("_") or name in _ENTRANCES):
                if not hasattr(value, "is_inside"):
                    setattr(entrance, name, wrap_entrance(value))
            elif isinstance(value, property) and value.fget is not None and not name.startswith("_"):
                setattr(
                    entrance,
                    name,
                    property(wrap_entrance(value.fget), value.fset, value.fdel, value.__doc__),
                )
        return cast("F", entrance)
    return cast("F", wrap_entrance(entrance))


def inside(method: F) -> F:
    """Mark a method of a `short_errors` class that only this package calls, inside an entrance."""
    method.is_inside = True  # type: ignore[attr-defined]
    return method


def wrap_entrance(function: Callable[..., Any], check: Check | None = None) -> Callable[..., Any]:
    """Wrap a function that programs call, once: its errors get a short traceback.

    Args:
        function: sync or async; one that is already wrapped is returned unchanged.
        check: called with the positional and keyword arguments; raises if they don't fit.
    """
    if _is_wrapped(function):
        return function

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            try:
                if check is not None:
                    check(args, kwargs)
                return await function(*args, **kwargs)
            except BaseException as error:
                shorten(error)
                raise

        return _add_check(call_async, check)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            if check is not None:
                check(args, kwargs)
            return function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            shorten(error)
            raise

    return _add_check(call, check)


def unwrap_entrance(function: Callable[..., Any]) -> tuple[Callable[..., Any], Check | None]:
    """Return the function inside an entrance, and its argument check, for a wrapper that does both itself."""
    if _is_wrapped(function):
        return cast("Any", function).__wrapped__, cast("Any", function).check_arguments
    return function, None


def _add_check(wrapper: Callable[..., Any], check: Check | None) -> Callable[..., Any]:
    wrapper.check_arguments = check  # type: ignore[attr-defined]
    return wrapper


def _is_wrapped(function: Callable[..., Any]) -> bool:
    return getattr(function, "__globals__", None) is globals()


# -- which arguments there are ------------------------------------------------------------------------------


class ArgumentCheck:
    """Rejects arguments that a function doesn't take, with a `UsageError` that says what to write instead.

    Python's own error would name the inner function, which the program hasn't called.

    Args:
        what: what errors call the function.
        function: the function; the parameters in its own signature are taken.
        declared: the names that it takes as `**arguments`.
        ways: advice on arguments that other functions take and this one doesn't.
    """

    __slots__ = ("_accepted", "_code", "_count", "_declared", "_first", "_required", "_ways", "_what")

    def __init__(
        self,
        what: str,
        function: Callable[..., Any],
        declared: Iterable[str] = (),
        ways: Mapping[str, str] | None = None,
    ) -> None:
        self._what = what
        # From the code object: `inspect.signature` would cost import time for every verb.
        self._code: CodeType = cast("FunctionType", function).__code__
        self._declared = tuple(declared)
        self._ways = ways or {}
        # Precomputed sets, so that a correct call costs two comparisons.
        self._accepted = frozenset((*self._positional(), *self._keywords(), *self._declared))
        self._first = frozenset(self._positional())
        self._count = self._code.co_argcount
        self._required = self._count - len(cast("FunctionType", function).__defaults__ or ())

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Reject unknown keyword arguments, and positional arguments that don't fit.

        Raises:
            UsageError: says what the function takes.
        """
        if not self._accepted.issuperset(kwargs) and not self._takes_any():
            unknown = next(name for name in kwargs if name not in self._accepted)
            raise make_argument_error(self._what, unknown, self._order_names(), ways=self._ways)
        if len(args) != self._count or (kwargs and not self._first.isdisjoint(kwargs)):
            self._check_positions(args, kwargs)

    def _check_positions(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        names = self._code.co_varnames[: self._count]
        if len(args) > self._count and not self._code.co_flags & inspect.CO_VARARGS:
            raise UsageTypeError(f"{self._says_what_it_takes()}; {self._advice_for_value(args[self._count])}")
        if twice := [name for name in names[: len(args)] if name in kwargs]:
            # A name that is nearly another one: the first argument is meant to be the provider, and `model` its model.
            other = f"{twice[0]}_id"
            hint = f"; did you mean {other}=…?" if other in self._accepted else ""
            raise UsageTypeError(f"{self._what} was given {twice[0]!r} twice: by position and by name{hint}")
        if missing := [name for name in names[len(args) : self._required] if name not in kwargs]:
            verb = "is missing" if len(missing) == 1 else "are missing"
            # Not the object of a method, which has a verb of this name since it is being called.
            given = args[self._count - len(self._positional()) :]
            own = f"; the verb of a session is its own: m.{self._what}(…)" if _has_verb(given, self._what) else ""
            raise UsageTypeError(f"{self._says_what_it_takes()}; {' and '.join(map(repr, missing))} {verb}{own}")

    def _says_what_it_takes(self) -> str:
        names = self._positional()
        count = {0: "no positional arguments", 1: "one positional argument"}.get(len(names))
        listed = f", {', '.join(names)}" if names else ""
        return f"{self._what} takes {count or f'{len(names)} positional arguments'}{listed}"

    def _advice_for_value(self, value: Any) -> str:
        """Return advice on how to pass a positional argument by name, judging by its value."""
        taken = self._accepted
        if isinstance(value, Mapping) and "answers" in self._ways:
            return self._ways["answers"]
        if isinstance(value, Mapping) and "user_variables" in taken:
            return "values for {{placeholders}} go into user_variables={…}, options of the model into model_options={…}"
        if callable(value) and "validation_fn" in taken:
            return "the function that checks goes into validation_fn=…"
        if isinstance(value, type) and "format" in taken:
            return f"the type of the answer goes into format={value.__name__}"
        if isinstance(value, (list, tuple)) and "requirements" in taken:
            return "what the answer has to meet goes into requirements=[…], tools go into tools=[…]"
        if isinstance(value, str) and "role" in taken:
            return "the speaker goes into role=…, earlier turns into a list of messages as the first argument"
        if isinstance(value, str) and "grounding_context" in taken:
            return "give one text, with all of the task; what it is about may go into input=… or grounding_context={…}"
        others = [name for name in self._order_names() if name not in self._positional()]
        which = "the others" if self._positional() else "its arguments"
        return f"{which} are given by name: {', '.join(others)}" if others else f"{value!r} is one too many"

    def _takes_any(self) -> bool:
        return not self._declared and bool(self._code.co_flags & inspect.CO_VARKEYWORDS)

    def _positional(self) -> tuple[str, ...]:
        names = self._code.co_varnames[: self._code.co_argcount]
        return tuple(name for name in names if name not in ("self", "cls"))

    def _keywords(self) -> tuple[str, ...]:
        count = self._code.co_argcount
        return self._code.co_varnames[count : count + self._code.co_kwonlyargcount]

    def _order_names(self) -> tuple[str, ...]:
        """Return all names, in the order in which a reader would look for them."""
        keywords = self._keywords()
        first = [name for name in keywords if name == "format"]
        return (*first, *self._declared, *[name for name in keywords if name not in first], *self._positional())


def _has_verb(values: Sequence[Any], name: str) -> bool:
    return any(not isinstance(value, type) and callable(getattr(value, name, None)) for value in values)
