"""Tools: functions with the description that a model needs to call them."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, overload

from mellea.core.backend import BuiltinTool, ToolSpec
from mellea.core.runtime.tasks import outcome_of
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.defaults import FieldDefaults
from mellea.stdlib.tools.docstring import parse_docstring
from mellea.stdlib.tools.signature import ToolArguments, get_docstring, get_name, get_parameters, resolve_type_hints

__all__ = ["AnyTool", "Tool", "as_tool", "as_tools", "tool"]

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tool(Generic[P, R]):
    """A function that a model may call; your code can still call it directly.

    The schema comes from the annotations and the docstring: the descriptions of the arguments from its `Args:` section
    (or NumPy's, or Sphinx's), the tool's description from the rest.

    Args:
        function: a function or a bound method, sync (then the model's calls run in a worker thread) or async.
        name: the name for the model; by default the function's name.
        description: the description for the model; by default the docstring.
        names: names that the annotations may use in addition to the function's module and closure.

    Raises:
        UsageError: it is not a function, takes `*args` or `**kwargs`, or its name isn't valid for a tool.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(function) or inspect.isclass(function):
            raise UsageError(f"a tool is made of a function, not of {function!r}")
        self.name = get_name(function) if name is None else name
        what = f"the tool {self.name!r}"
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UsageError(
                f"a tool's name takes up to 64 letters, digits, _ and -, not {self.name!r}; give it one with name="
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(f"{what} yields; a tool returns its result at once")
        self._function = function
        self._description = description
        self._parameters = get_parameters(function, what)
        self._hints = _resolve_early(function, names, self._parameter_names)
        functools.update_wrapper(self, function, updated=())

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it.

        Raises:
            UsageError: an annotation can't be resolved, or has no JSON form.
        """
        text = self._description
        if text is None:
            doc = parse_docstring(get_docstring(self._function))
            kept = [f"{title}: {body}" for title, body in doc.sections.items() if title != "Raises"]
            text = "\n\n".join(filter(None, [doc.text, *kept]))
        return ToolSpec(self.name, text, self._arguments.schema)

    @functools.cached_property
    def _arguments(self) -> ToolArguments:
        what = f"the tool {self.name!r}"
        if self._parameters and self._parameters[0].name in ("self", "cls"):
            raise UsageError(
                f"{what} is a method of a class; take it from an instance, as in tools=[thing.{self.name}]"
            )
        hints = self._hints
        if hints is None:
            hints = resolve_type_hints(self._function, what, of=self._parameter_names)
        return ToolArguments(what, self._parameters, hints, parse_docstring(get_docstring(self._function)).arguments)

    @property
    def _parameter_names(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self._parameters)

    async def call(self, args: Mapping[str, Any] | None = None) -> Any:
        """Validate the arguments and call the function; a sync one runs in a worker thread.

        Args:
            args: the arguments by name, as JSON values.

        Raises:
            ToolError: the arguments aren't valid.
            Exception: what the function raises.
        """
        if args is not None and not isinstance(args, Mapping):
            raise ToolError(f"the tool {self.name!r} takes its arguments as an object, not {args!r}")
        values = self._arguments.check(args or {})
        positional, by_name = self._arguments.bind(values)
        return await outcome_of(functools.partial(self._function, *positional, **by_name))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; pydantic's `Field(…)` as a default is applied as in pydantic.

        Raises:
            UsageError: the argument of a parameter with a `Field(…)` is missing or not valid.
        """
        if not self._fields:
            return self._function(*args, **kwargs)
        bound = inspect.signature(self._function).bind(*args, **kwargs)
        self._fields.fill(bound)
        bound.arguments |= self._fields.check(bound.arguments)
        return self._function(*bound.args, **bound.kwargs)

    @functools.cached_property
    def _fields(self) -> FieldDefaults:
        return FieldDefaults(f"{self.name}()", inspect.signature(self._function), lambda names: self._hints or {})

    def __get__(self, instance: Any, owner: type | None = None) -> Tool[..., R]:
        """Bind a tool made from a method, as the method itself would be bound."""
        binds = getattr(self._function, "__get__", None)
        if instance is None or binds is None:
            return self
        return Tool(binds(instance, owner), name=self.name, description=self._description)

    def __repr__(self) -> str:
        return f"<Tool {self.name!r}>"


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(function: Any = None, /, *, name: str | None = None, description: str | None = None) -> Any:
    """Make a function a tool, as a decorator with or without arguments.

    Plain functions can be passed as tools, too; the decorator checks the function where it is defined.

    Raises:
        UsageError: a model can't call the function.
    """
    names = sys._getframe(1).f_locals  # the function's annotations may use names that are local to its definition

    def make(function: Any) -> Tool[Any, Any]:
        return Tool(function, name=name, description=description, names=names)

    return make if function is None else make(function)


def as_tool(function: Callable[..., Any] | Tool[..., Any], name: str | None = None) -> Tool[..., Any]:
    """Make a tool from a function; a tool is returned as it is, or with another name.

    Raises:
        UsageError: it is neither, or a model can't call it.
    """
    if isinstance(function, Tool):
        if name is None or name == function.name:
            return function
        return Tool(function._function, name=name, description=function._description)
    if not callable(function):
        raise UsageError(f"tools takes functions and Tools, not {function!r}")
    return Tool(function, name=name)


AnyTool = Callable[..., Any] | Tool[..., Any] | ToolSpec | BuiltinTool
"""What `tools=` takes: a function, a `Tool`, just a schema, or a tool that the provider runs itself."""


def as_tools(tools: Iterable[AnyTool]) -> tuple[Tool[..., Any] | ToolSpec | BuiltinTool, ...]:
    """Check the value of `tools=`, and make its functions into tools.

    Raises:
        UsageError: it is not a list, one of them is not a tool, or two have the same name.
    """
    if isinstance(tools, (str, bytes)) or not isinstance(tools, Iterable):
        raise UsageError(f"tools takes a list, not {tools!r}")
    checked = tuple(tool if isinstance(tool, (ToolSpec, BuiltinTool)) else as_tool(tool) for tool in tools)
    names = [tool.name for tool in checked]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two tools have the name {twice!r}; mellea.tool(name=…) gives one of them another")
    return checked


def _resolve_early(function: Any, names: Mapping[str, Any] | None, of: frozenset[str]) -> dict[str, Any] | None:
    """Resolve the annotations now if possible; `None` if a name isn't defined yet, so it has to be done later.

    The names aren't kept, because they are all the local variables of the calling function.
    """
    if names is None:
        return None
    try:
        return resolve_type_hints(function, "", names, of=of)
    except UsageError:
        return None
