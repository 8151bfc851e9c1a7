"""`mellea run`: calls a function of a program: a generative function, an agent, or any other."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any

import anyio
import typer

from mellea.cli import output
from mellea.cli.arguments import Model, read_argument, read_pipe, split
from mellea.cli.programs import load
from mellea.errors import UsageError
from mellea.stdlib.agents import Agent
from mellea.stdlib.generative import PromptFunction
from mellea.stdlib.generative.items import ItemStream
from mellea.stdlib.session import start_session
from mellea.stdlib.tools.signature import resolve_type_hints

__all__ = ["run"]


def run(
    program: Annotated[str, typer.Argument(metavar="FILE.py:NAME", help="A function, or an agent.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE",
            help="The arguments, as JSON or text; `-` is the piped input. For an agent, the prompt.",
        ),
    ] = None,
    model: Model = None,
) -> None:
    """Call a function of a program, and print its result.

    Text is printed as it is written, anything else as JSON lines.
    """
    called = load(program)
    if isinstance(called, Agent):
        with called.stream(" ".join(map(_read, arguments or ()))) as chunks:
            _print_text(chunk.text for chunk in chunks)
        return
    if not callable(called):
        raise UsageError(f"{program!r} is {called!r}, not a function or an agent; name one, as in FILE.py:NAME")
    given = _bind(program, called, arguments or ())
    with start_session(model):
        if isinstance(called, PromptFunction):
            _print_answer(called, given)
        else:
            _print_result(called(**given))


def _bind(program: str, called: Callable[..., Any], arguments: Sequence[str]) -> dict[str, Any]:
    signature = inspect.signature(called)
    parameters = signature.parameters
    kinds = _resolve(called, parameters)
    rest = next((each.name for each in parameters.values() if each.kind is each.VAR_KEYWORD), "")
    given: dict[str, Any] = {}
    for name, text in (split("run", each) for each in arguments):
        kind = kinds.get(name if name in parameters else rest, inspect.Parameter.empty)
        given[name] = read_argument(name, _read(text), kind)
    try:
        # Before the call, so that a wrong argument isn't mistaken for a failure inside the function.
        signature.bind(**given)
    except TypeError as error:
        # Python names what is missing alone, which often is what was misspelt.
        unknown = next((name for name in given if name not in parameters), "")
        named = "" if not unknown or repr(unknown) in str(error) else f", and got an unexpected one: {unknown!r}"
        near = get_close_matches(unknown, parameters, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{program}{signature}: {error}{named}{hint}") from None
    return given


def _resolve(called: Callable[..., Any], parameters: Iterable[str]) -> dict[str, Any]:
    try:
        return resolve_type_hints(called, "the function", of={*parameters})
    except UsageError:  # an annotation that can't be resolved at run time; the function may work without it
        return {}


def _read(text: str) -> str:
    if text != "-":
        return text
    piped = read_pipe()
    if piped is None:
        raise UsageError("'-' stands for the piped input, but nothing is piped in")
    return piped


def _print_answer(function: PromptFunction[..., Any], given: Mapping[str, Any]) -> None:
    with function.stream(**given) as stream:
        # A list is printed item by item as each is complete.
        if isinstance(stream, ItemStream):
            for item in stream:
                output.write_value(item)
        elif inspect.signature(function).return_annotation in (str, "str"):
            _print_text(stream)
        else:
            for _ in stream:
                pass  # the value is available at the end
            output.write_value(stream.output)


def _print_text(chunks: Iterable[str]) -> None:
    chunk = ""
    for chunk in chunks:
        output.write(chunk)
    output.end_line(chunk)


def _print_result(result: Any) -> None:
    if isinstance(result, Awaitable):
        output.write_value(anyio.run(partial(_wait, result)))
    elif isinstance(result, AsyncIterable):
        anyio.run(_print_each, result)
    elif isinstance(result, Iterator):
        for value in result:
            output.write_value(value)
    elif result is not None:
        output.write_value(result)


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


async def _print_each(values: AsyncIterable[Any]) -> None:
    async for value in values:
        output.write_value(value)
