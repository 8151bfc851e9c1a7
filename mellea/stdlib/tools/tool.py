"""Tools: functions with the description that a model needs to call them."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, get_args, overload

import anyio

from mellea.core.backend import BuiltinTool, ToolExample, ToolSpec
from mellea.core.entrance import entrance
from mellea.core.numbers import is_number
from mellea.core.runtime.tasks import find_outcome, run_together
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.tool_set import ToolSet

if TYPE_CHECKING:
    from mellea.stdlib.tools.contracts import Contract
    from mellea.stdlib.tools.defaults import FieldDefaults
    from mellea.stdlib.tools.progress import Report
    from mellea.stdlib.tools.signature import ArgumentValidator

__all__ = [
    "MAX_TURNS",
    "AnyTool",
    "CheckedTool",
    "Runs",
    "Tool",
    "ToolCalls",
    "as_tool",
    "as_tools",
    "has_sets",
    "load_tools",
    "tool",
]

P = ParamSpec("P")
R = TypeVar("R")

Runs = Literal["here", "outside"]
"""Where a tool runs: in this process, or outside, with its result passed in."""

MAX_TURNS = 10
"""How many times a loop asks the model, unless it is told otherwise."""

ToolCalls = Literal["show", "run"] | bool
"""Whether calls of tools only stand in the answer, or are run, and the model is asked again with their results.

Mellea 0.8 says `True` for `"show"`, and `False` where the model is offered no tools.
"""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tool(Generic[P, R]):
    """A function that a model may call; your code can still call it directly.

    The schema comes from the annotations and the docstring: the descriptions of the arguments from its `Args:` section
    (or NumPy's, or Sphinx's), the tool's description from the rest.

    A generator function, sync or async, reports its progress: each value that it yields is a `ToolProgress` event, and
    the result is its return value, or else the last value. If the result is a `ToolReturn`, the model reads a different
    text.

    Args:
        function: sync (then the model's calls run in a worker thread) or async; a bound method works as well.
        name: what the model calls it; the function's name by default.
        description: what it is for; the docstring by default.
        timeout: seconds after which a call is abandoned, and the model is informed. A sync function then keeps running
            in its thread, and its result is dropped; a sync generator ends at its next `yield`.
        one_at_a_time: run the calls of one answer in order, never two at once.
        runs: `"outside"` if it is run elsewhere and its result passed in; its body is never called.
        requires_approval: whether a person has to approve each call; or a function, sync or async, that takes some of
            the tool's arguments by name and decides.
        examples: worked calls for models without native tools; without them a small one rarely finds the right tool
            and arguments.
        names: additional names that the annotations may use.
        contracts: the conditions of `@require` and `@ensure`; by default those that were set on the function.

    Attributes:
        inner_tools: the tools of the agent, if the tool is an agent; otherwise empty.

    Raises:
        UsageError: it is not a function, takes `*args` or `**kwargs`, or has an invalid name; or another argument is
            wrong.
    """

    inner_tools: tuple[AnyTool, ...] = ()

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        one_at_a_time: bool = False,
        runs: Runs = "here",
        requires_approval: bool | Callable[..., Any] = False,
        examples: Iterable[ToolExample] = (),
        names: Mapping[str, Any] | None = None,
        contracts: tuple[Contract, ...] | None = None,
    ) -> None:
        from mellea.stdlib.tools.contracts import Check, list_contracts  # lazy: plain text needs no tools
        from mellea.stdlib.tools.signature import get_name, get_parameters  # lazy: plain text needs no tools

        if not callable(function) or inspect.isclass(function):
            raise UsageError(f"a tool is made from a function, not from {function!r}")
        self.name = get_name(function) if name is None else name
        what = f"the tool {self.name!r}"
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UsageError(
                f"a tool's name takes up to 64 letters, digits, _ and -, not {self.name!r}; give it one with name="
            )
        _check_settings(what, timeout, one_at_a_time, runs)
        self.timeout = timeout
        self.one_at_a_time = one_at_a_time
        self.runs = runs
        self.requires_approval = requires_approval
        self.examples = _check_examples(what, examples)
        self._function = function
        self._description = description
        self._parameters = get_parameters(function, what)
        self._contracts = list_contracts(function) if contracts is None else contracts
        self._approval = None if isinstance(requires_approval, bool) else Check(requires_approval, "requires_approval=")
        for check in [*(contract.check for contract in self._contracts), *([self._approval] if self._approval else [])]:
            check.fit([parameter.name for parameter in self._parameters])
        self._hints = _resolve_early(function, names, self._parameter_names)
        functools.update_wrapper(self, function, updated=())

    @classmethod
    def from_callable(cls, function: Callable[P, R], name: str | None = None) -> Tool[P, R]:
        """Make a tool from a function; Mellea 0.8's name for the constructor, as `run` is for the call itself."""
        return Tool(function, name=name)

    @property
    def as_json_tool(self) -> dict[str, Any]:
        """The tool in the form of a chat completions API; Mellea 0.8's form of `spec`."""
        spec = self.spec
        shown = {"name": spec.name, "description": spec.description, "parameters": dict(spec.parameters)}
        return {"type": "function", "function": shown}

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it.

        Raises:
            UsageError: an annotation can't be resolved, or has no JSON form; or an example is not a valid call.
        """
        from mellea.stdlib.tools.docstring import parse_docstring  # lazy: plain text needs no tools
        from mellea.stdlib.tools.signature import get_docstring  # lazy: plain text needs no tools

        text = self._description
        if text is None:
            doc = parse_docstring(get_docstring(self._function))
            kept = [f"{title}: {body}" for title, body in doc.sections.items() if title != "Raises"]
            text = "\n\n".join(filter(None, [doc.text, *kept]))
        for example in self.examples:
            self._check_example(example)
        return ToolSpec(self.name, text, self._arguments.schema, self.examples).bind(self)

    def _check_example(self, example: ToolExample) -> None:
        try:
            self._check_values(example.arguments)
        except ToolError as error:
            raise UsageError(f"an example of the tool {self.name!r} is not a valid call: {error}") from None

    @functools.cached_property
    def _arguments(self) -> ArgumentValidator:
        from mellea.stdlib.tools.docstring import parse_docstring  # lazy: plain text needs no tools
        from mellea.stdlib.tools.signature import (  # lazy: plain text needs no tools
            ArgumentValidator,
            get_docstring,
            resolve_type_hints,
        )

        what = f"the tool {self.name!r}"
        if self._parameters and self._parameters[0].name in ("self", "cls"):
            raise UsageError(
                f"{what} is a method of a class; take it from an instance, as in tools=[thing.{self.name}]"
            )
        hints = self._hints
        if hints is None:
            hints = resolve_type_hints(self._function, what, of=self._parameter_names)
        return ArgumentValidator(
            what, self._parameters, hints, parse_docstring(get_docstring(self._function)).arguments
        )

    @property
    def _parameter_names(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self._parameters)

    async def call(self, args: Mapping[str, Any] | None = None, *, on_progress: Report | None = None) -> Any:
        """Check the arguments and conditions and call the function; a sync one runs in a worker thread.

        Args:
            args: the arguments by name, as JSON values.
            on_progress: called with each value that a generator yields.

        Returns:
            The function's or the generator's result; a `ToolReturn` unchanged.

        Raises:
            ToolError: the arguments don't fit, a condition doesn't hold, or it timed out; exceptions of the function
                itself are raised unchanged.
            UsageError: the tool runs outside.
        """
        if self.runs == "outside":
            raise UsageError(f"the tool {self.name!r} runs outside this program, which can't call it")
        values = self._check_values(args)
        if self.timeout is None:
            return await self._run(values, on_progress or _ignore)
        with anyio.move_on_after(self.timeout):
            return await self._run(values, on_progress or _ignore)
        raise ToolError(f"the tool {self.name!r} took longer than {self.timeout:g} s and was abandoned")

    @property
    def must_ask(self) -> bool:
        """Whether its calls may have to wait for a person."""
        return self.runs == "outside" or bool(self.requires_approval)

    async def needs_approval(self, args: Mapping[str, Any] | None = None) -> bool:
        """Return whether a person has to approve a call with these arguments, as JSON values.

        A call with invalid arguments needs none: it isn't run. If the deciding function raises, the call needs
        approval.
        """
        if self._approval is None:
            return bool(self.requires_approval)
        try:
            values = self._check_values(args)
        except ToolError:
            return False
        try:
            return bool(await self._approval.run(self._name_arguments(values)))
        except Exception:  # noqa: BLE001 - the user's function: undecided calls go to a person
            return True

    async def _run(self, values: Mapping[str, Any], report: Report) -> Any:
        from mellea.stdlib.tools.progress import run_generator  # lazy: plain text needs no tools
        from mellea.stdlib.tools.returned import ToolReturn  # lazy: plain text needs no tools

        named = self._name_arguments(values) if self._contracts else {}
        for contract in self._contracts:
            if not contract.is_ensured:
                await contract.hold(self.name, named)
        positional, by_name = self._arguments.bind(values)
        result = await find_outcome(functools.partial(self._function, *positional, **by_name))
        if isinstance(result, (Generator, AsyncGenerator)):
            result = await run_generator(result, report)
        for contract in self._contracts:
            if contract.is_ensured:
                await contract.hold(self.name, named, ToolReturn.of(result).value)
        return result

    def check_args(self, args: Mapping[str, Any] | None) -> dict[str, Any]:
        """Convert a call's arguments from JSON values to the function's types.

        Raises:
            ToolError: they don't fit; the message is written for the model.
        """
        return self._check_values(args)

    def _check_values(self, args: Mapping[str, Any] | None) -> dict[str, Any]:
        if args is not None and not isinstance(args, Mapping):
            raise ToolError(f"the tool {self.name!r} takes its arguments as an object, not {args!r}")
        return self._arguments.check(args or {})

    def _name_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments of a call by name, including defaults."""
        return {each.name: values.get(each.name, each.default) for each in self._parameters}

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

    run = __call__

    @functools.cached_property
    def _fields(self) -> FieldDefaults:
        from mellea.stdlib.tools.defaults import FieldDefaults  # lazy: plain text needs no tools

        return FieldDefaults(f"{self.name}()", inspect.signature(self._function), lambda names: self._hints or {})

    def __get__(self, instance: Any, owner: type | None = None) -> Tool[..., R]:
        """Bind a tool made from a method, as the method itself would be bound."""
        binds = getattr(self._function, "__get__", None)
        if instance is None or binds is None:
            return self
        return self._like(binds(instance, owner))

    def with_contract(self, contract: Contract) -> Tool[P, R]:
        """Return this tool with one more condition, which comes before the others."""
        return self._like(self._function, contracts=(contract, *self._contracts))

    def rename(self, name: str) -> Tool[P, R]:
        """Return this tool under another name."""
        return self._like(self._function, name=name)

    def _traced_(self, trace: Callable[[Any], Any]) -> Tool[P, R]:
        """Return this tool with a span around each call of its function."""
        made = self._like(trace(self._function))
        made._hints = self._hints
        return made

    def _like(
        self, function: Any, *, name: str | None = None, contracts: tuple[Contract, ...] | None = None
    ) -> Tool[Any, Any]:
        made: Tool[Any, Any] = Tool(
            function,
            name=self.name if name is None else name,
            description=self._description,
            timeout=self.timeout,
            one_at_a_time=self.one_at_a_time,
            runs=self.runs,
            requires_approval=self.requires_approval,
            examples=self.examples,
            contracts=self._contracts if contracts is None else contracts,
        )
        made.inner_tools = self.inner_tools
        if function is self._function:
            made._hints = self._hints
        return made

    def __repr__(self) -> str:
        return f"<Tool {self.name!r}>"


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    one_at_a_time: bool = False,
    runs: Runs = "here",
    requires_approval: bool | Callable[..., Any] = False,
    examples: Iterable[ToolExample] = (),
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
@entrance(
    "tool",
    strict="every argument is validated before the function runs",
    needs_approval="requires_approval=…",
    approval="requires_approval=…",
    approval_mode="requires_approval=…",
    args_schema="the annotations are the schema",
    name_override="name=…",
    description_override="description=…",
)
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    one_at_a_time: bool = False,
    runs: Runs = "here",
    requires_approval: bool | Callable[..., Any] = False,
    examples: Iterable[ToolExample] = (),
) -> Any:
    """Make a function a tool, as a decorator with or without settings, which `Tool` explains.

    Plain functions can be passed as tools as well; the decorator checks the function where it is defined.

    Raises:
        UsageError: a model can't call the function.
    """
    # The function's annotations may use names that are local to its definition; the frame in between is the entrance's.
    names = sys._getframe(2).f_locals

    def make(function: Any) -> Tool[Any, Any]:
        return Tool(
            function,
            name=name,
            description=description,
            timeout=timeout,
            one_at_a_time=one_at_a_time,
            runs=runs,
            requires_approval=requires_approval,
            examples=examples,
            names=names,
        )

    return make if function is None else make(function)


def as_tool(function: Callable[..., Any] | Tool[..., Any], name: str | None = None) -> Tool[..., Any]:
    """Make a tool from a function; a tool is returned as it is, or with another name.

    Raises:
        UsageError: it is neither, or a model can't call it.
    """
    if isinstance(function, Tool):
        if name is None or name == function.name:
            return function
        return function.rename(name)
    if not callable(function):
        schemas = "; pass the function itself, whose schema is made from it" if isinstance(function, dict) else ""
        raise UsageError(f"tools takes functions and Tools, not {function!r}{schemas}")
    return Tool(function, name=name)


AnyTool = Callable[..., Any] | Tool[..., Any] | ToolSpec | BuiltinTool | ToolSet
"""The elements of `tools=`: a function, a `Tool`, a bare schema, a tool that the provider runs itself, or a set of
tools that is loaded when needed."""

CheckedTool = Tool[..., Any] | ToolSpec | BuiltinTool | ToolSet
"""The same without functions, which have become tools."""


def as_tools(tools: Iterable[AnyTool] | ToolSet) -> tuple[CheckedTool, ...]:
    """Check the value of `tools=`, and convert its functions to tools; sets of tools stay unchanged.

    Raises:
        UsageError: it is not a list, one of them is not a tool, or two have the same name.
    """
    if isinstance(tools, ToolSet):
        return (tools,)
    if isinstance(tools, (str, bytes)) or not isinstance(tools, Iterable):
        raise UsageError(f"tools takes a list, not {tools!r}; put it into one")
    checked = tuple(tool if isinstance(tool, (ToolSpec, BuiltinTool, ToolSet)) else as_tool(tool) for tool in tools)
    names = [tool.name for tool in checked if not isinstance(tool, ToolSet)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two tools have the name {twice!r}; mellea.tool(name=…) gives one of them another")
    return checked


def has_sets(tools: Iterable[AnyTool]) -> bool:
    """Return whether there are sets among the tools, which have to be loaded first."""
    return any(isinstance(tool, ToolSet) for tool in tools)


async def load_tools(tools: Sequence[CheckedTool]) -> tuple[CheckedTool, ...]:
    """Return the tools, with sets replaced by their tools; sets are loaded concurrently.

    Raises:
        UsageError: two have the same name.
        ToolError: a set can't be loaded.
    """
    if not has_sets(tools):
        return as_tools(tools)
    found = iter(await run_together([tool.aload for tool in tools if isinstance(tool, ToolSet)]))
    return as_tools([one for tool in tools for one in (next(found) if isinstance(tool, ToolSet) else (tool,))])


def _check_settings(what: str, timeout: Any, one_at_a_time: Any, runs: Any) -> None:
    if timeout is not None and not (is_number(timeout) and timeout > 0):
        raise UsageError(f"timeout= of {what} takes seconds above 0, not {timeout!r}")
    if not isinstance(one_at_a_time, bool):
        raise UsageError(f"one_at_a_time= of {what} takes True or False, not {one_at_a_time!r}")
    if runs not in get_args(Runs):
        raise UsageError(f"runs= of {what} takes 'here' or 'outside', not {runs!r}")


def _check_examples(what: str, examples: Any) -> tuple[ToolExample, ...]:
    given = tuple(examples) if isinstance(examples, Iterable) else (examples,)
    if bad := [each for each in given if not isinstance(each, ToolExample)]:
        raise UsageError(f"examples= of {what} takes ToolExamples, not {bad[0]!r}")
    return given


def _ignore(value: Any) -> None:
    """Ignore what a tool reports."""


def _resolve_early(function: Any, names: Mapping[str, Any] | None, of: frozenset[str]) -> dict[str, Any] | None:
    """Resolve the annotations now if possible; `None` if a name isn't defined yet, so it has to be done later.

    The names aren't kept, because they are all the local variables of the calling function.
    """
    from mellea.stdlib.tools.signature import resolve_type_hints  # lazy: plain text needs no tools

    if names is None:
        return None
    try:
        return resolve_type_hints(function, "", names, of=of)
    except UsageError:
        return None
