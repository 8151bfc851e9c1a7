"""`mellea ask`: one prompt, answered on stdout while it is written."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, get_origin

import typer

from mellea.cli import conversation, output
from mellea.cli.arguments import Model, read_pipe, read_text, read_value, split
from mellea.cli.programs import load
from mellea.core.blocks import CBlock, FileBlock, ImageBlock
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.errors import MelleaError, UsageError
from mellea.stdlib.session import start_session
from mellea.stdlib.streaming import Stream
from mellea.templates.render import fill, find_variables

__all__ = ["ask"]


def ask(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; piped input is appended to it.")] = None,
    model: Model = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions for the model.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The maximum number of tokens in the answer.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="Set any other model option.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="FILE.py:TYPE", help="The type of the answer, which is printed as JSON.")
    ] = None,
    schema: Annotated[str | None, typer.Option(metavar="FILE|JSON", help="The JSON Schema of the answer.")] = None,
    items: Annotated[
        bool, typer.Option("--items", help="Ask for a list; print each complete item as a line of JSON.")
    ] = False,
    partials: Annotated[
        bool, typer.Option("--partials", help="Print a line of JSON for each new piece of the value.")
    ] = False,
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", "-a", exists=True, dir_okay=False, help="Add an image or another file to the prompt."),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template", "-t", exists=True, dir_okay=False, help="Read the prompt from a file with {{names}}."
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=VALUE",
            help="Set a {{name}} of the template; {{input}} is the piped input.",
        ),
    ] = None,
    go_on: Annotated[bool, typer.Option("--continue", "-c", help="Continue the last conversation.")] = False,
    usage: Annotated[bool, typer.Option("--usage", "-u", help="Print time, tokens and cost on stderr.")] = False,
) -> None:
    """Send a prompt to a model, and print the answer.

    The answer is text, or JSON with --format, --schema, --items or --partials.
    """
    piped = read_pipe()
    options: dict[Any, Any] = {
        name: read_value(value) for name, value in (split("--option", each) for each in option or ())
    }
    options |= {ModelOption.SYSTEM_PROMPT: system} if system is not None else {}
    options |= {ModelOption.MAX_NEW_TOKENS: max_tokens} if max_tokens is not None else {}
    wanted = _format(format, schema, is_list=items, is_json=partials)
    arguments: dict[str, Any] = {} if wanted is None else {"format": wanted}
    if template is not None:
        if go_on or attach or prompt:
            raise UsageError("--template is the whole prompt; give --parameter or piped input, but no prompt")
        content: Any = _fill(template, piped, dict(split("--parameter", each) for each in parameter or ()))
    else:
        if parameter:
            raise UsageError("--parameter fills a file that --template names; there is no --template")
        _warn_of_places(prompt or "")
        question = _question(prompt, piped or "", attach or ())
        content = [*(conversation.load() if go_on else ()), question]
    session = start_session(model, model_options=options)
    with session.stream(content, **arguments) as stream:
        _print(stream, is_list=items, is_partial=partials, is_text=wanted is None)
        if template is None:
            # Inside the block, so an answer that was cut off by Ctrl-C isn't remembered.
            conversation.save([*content, stream.message])
        if usage:
            output.note(_took(stream))


def _print(stream: Stream[Any], *, is_list: bool, is_partial: bool, is_text: bool) -> None:
    """Print the answer as it arrives."""
    if is_text:
        chunk = ""
        try:
            for chunk in stream:
                output.write(chunk)
        except (KeyboardInterrupt, MelleaError):
            if chunk:  # otherwise the shell's prompt would follow on the same line
                output.end_line(chunk)
            raise
        output.end_line(chunk)
        return
    from pydantic_core import to_jsonable_python  # lazy: plain text needs no pydantic

    if is_list:
        for item in stream.items():
            output.write_json([to_jsonable_python(item)])
    elif is_partial:
        for part in stream.partials():
            output.write_json([{"path": part.path, "text": part.text, "data": to_jsonable_python(part.data)}])
    else:
        for _ in stream:
            pass  # the value is available at the end
        output.write_json([to_jsonable_python(stream.output)])


def _fill(template: Path, piped: str | None, given: dict[str, str]) -> str:
    """Return a template with its placeholders filled in."""
    text = read_text("the template", template)
    variables = given if piped is None else {"input": piped, **given}
    wanted = find_variables(text)
    if wanted is not None:
        _check_places(template, wanted, variables)
    return fill(text, variables)


def _check_places(template: Path, wanted: Set[str], variables: dict[str, str]) -> None:
    if missing := min(wanted - variables.keys(), default=None):
        way = "pipe in some text" if missing == "input" else f"fill it with -p {missing}=…"
        raise UsageError(f"{str(template)!r} has a placeholder {{{{{missing}}}}}; {way}")
    # A program that is started without a pipe has an empty one.
    if unused := min((name for name in variables.keys() - wanted if variables[name] or name != "input"), default=None):
        what = "the piped input" if unused == "input" else f"-p {unused}"
        raise UsageError(f"{str(template)!r} has no placeholder {{{{{unused}}}}} for {what}")
    if "input" not in wanted:
        variables.pop("input", None)


def _warn_of_places(prompt: str) -> None:
    # People who know the syntax from templates expect it to be filled in, but it may also be meant as text.
    if (wanted := find_variables(prompt)) and "{{" in prompt:
        name = min(wanted)
        output.note(f"mellea: {{{{{name}}}}} is sent as it is; -t FILE -p {name}=… fills in a template")


def _question(prompt: str | None, piped: str, files: Sequence[Path]) -> Message:
    # The prompt first, because the piped input is usually what the prompt is about.
    text = "\n\n".join(filter(None, [prompt, piped.rstrip("\n")]))
    if not text and not files:
        raise UsageError("there is nothing to ask; give a prompt, or pipe one in")
    return Message("user", [*([CBlock(text)] if text else ()), *map(_read_file, files)])


def _read_file(path: Path) -> FileBlock:
    file = FileBlock.from_path(path)
    # Images go to the model as such; providers treat other files differently.
    return ImageBlock.from_path(path) if file.essence.startswith("image/") else file


def _format(named: str | None, schema: str | None, *, is_list: bool, is_json: bool) -> Any:
    if named is not None and schema is not None:
        raise UsageError("give --format or --schema, not both")
    if named is None and schema is None:
        if is_json and not is_list:
            raise UsageError("--partials needs --format or --schema")
        return list[str] if is_list else None
    if schema is not None:
        known = _read_schema(schema)
        return {"type": "array", "items": known} if is_list and known.get("type") != "array" else known
    found = load(str(named))
    return GenericAlias(list, (found,)) if is_list and get_origin(found) is not list else found


def _read_schema(given: str) -> dict[str, Any]:
    text = (
        given if given.lstrip().startswith("{") else read_text("the schema", Path(given)) if _is_file(given) else None
    )
    if text is None:
        raise UsageError(f"--schema takes a file or a JSON object, and there is no file {given!r}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the schema isn't valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError("the schema isn't a JSON object")
    return found


def _is_file(named: str) -> bool:
    try:
        return Path(named).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False


def _took(stream: Stream[Any]) -> str:
    usage, cost = stream.usage, stream.result.cost
    counts = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
    tokens = " + ".join("?" if count is None else str(count) for count in counts)
    return f"mellea: {tokens} tokens" + ("" if cost is None else f", ${cost:.6f}")
