"""`mellea models`: which providers can be used, why others can't, and the weights of the embedded models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import typer
from rich.text import Text

from mellea.backends.llama_cpp.weights import DEFAULT_MODEL
from mellea.backends.registry import get_backend, list_models, list_provider_names
from mellea.cli import output
from mellea.cli.pull import pull
from mellea.core.terminal import make_visible
from mellea.errors import ConfigurationError, MelleaError

__all__ = ["app"]

_HERE = ("localhost", "127.0.0.1", "::1")

_SECONDS = 10.0
"""How long a provider may take to list its models."""

app = typer.Typer(help="List the models that you can use, or download the embedded one.")


@app.callback(invoke_without_command=True)
def start(context: typer.Context, as_json: output.Json = False) -> None:
    """List the models that you can use, or download the embedded one."""
    if context.invoked_subcommand is None:
        list_providers(as_json=as_json)


@app.command("pull")
def pull_model(model: Annotated[str, typer.Argument(help="The model to download.")] = DEFAULT_MODEL) -> None:
    """Download the weights of an embedded model.

    They are stored in the cache folder, and their path is printed.
    """
    output.write(f"{pull(model)}\n")


@app.command("list")
def list_providers(
    provider: Annotated[str | None, typer.Argument(help="List the models of this provider.")] = None,
    all: Annotated[
        bool, typer.Option("--all", help="Include providers that have no key, or no server on this machine.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """List the providers that you can use, or the models of one provider."""
    if provider is not None:
        models = anyio.run(list_models, provider)
        for model in models:
            output.write(f"{model}\n") if output.is_for_people(as_json) else output.write_json([f"{provider}/{model}"])
        return
    found = anyio.run(survey, list_provider_names())
    shown = [each for each in found if all or each["is_reachable"] or each["is_configured"]]
    if not output.is_for_people(as_json):
        output.write_json(shown)
        if not shown:  # a program that reads stdout gets an empty list, and a person gets the reason
            output.note(f"mellea: none of {len(found)} providers is set up; --all shows what each needs")
        return
    table = output.table("provider", "state", "models", "why not", right=["models"])
    for each in shown:
        state = "ready" if each["is_reachable"] else "not reachable" if each["is_configured"] else "not set up"
        style = "green" if each["is_reachable"] else "red" if each["is_configured"] else "dim"
        count = str(len(each["models"])) if each["is_reachable"] else ""
        table.add_row(each["provider"], Text(state, style=style), count, Text(make_visible(each.get("reason", ""))))
    output.draw(table)
    if not all:
        output.note(f"mellea: {len(found) - len(shown)} more are not set up; --all shows them")


async def survey(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the state of each provider: whether it is set up, whether it answers, and its models."""
    found: dict[str, dict[str, Any]] = {}

    async def look(name: str) -> None:
        found[name] = await _look(name)

    # All at once: a provider that is silent would otherwise hold up the list for ten seconds.
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(look, name)
    return [found[name] for name in names]


async def _look(name: str) -> dict[str, Any]:
    said: dict[str, Any] = {"provider": name, "is_configured": False, "is_reachable": False, "models": []}
    try:
        # A made-up name, since a backend needs one; only the list is requested.
        backend = get_backend(name) if name == "llama_cpp" else get_backend(name, "any")
    except ConfigurationError as error:
        return {**said, "reason": str(error)}
    try:
        backend.check_access()
        # A service on this machine needs no key, so without one only a response shows whether it is running.
        said["is_configured"] = backend.server is not None and (
            backend.server[0] not in _HERE or getattr(backend, "api_key", None) is not None
        )
        if backend.server is None and not (probe := await backend.probe()):
            return {**said, "reason": probe.reason}
        with anyio.fail_after(_SECONDS):
            models = await backend.list_models()
        return {**said, "is_configured": True, "is_reachable": True, "models": models}
    except MelleaError as error:
        # With a status it is there, and refuses.
        is_there = said["is_configured"] or getattr(error, "status", None) is not None
        return {**said, "is_configured": is_there, "reason": str(error)}
    except TimeoutError:
        return {**said, "reason": f"no answer within {_SECONDS:.0f} seconds"}
    finally:
        await backend.aclose()
