"""`mellea models`: the embedded models' weights."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, MODELS, find_weights
from mellea.cli import output
from mellea.cli.pull import pull
from mellea.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(help="The models, and the weights of the embedded ones.")


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """The models, and the weights of the embedded ones."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("pull")
def pull_model(model: Annotated[str, typer.Argument(help="Which model.")] = DEFAULT_MODEL) -> None:
    """Fetch the weights of a model into the cache, and print where they are."""
    output.write(f"{pull(model)}\n")


@app.command("list")
def list_models(as_json: output.Json = False) -> None:
    """List the embedded models, and where their weights are."""
    found = [{"model": name, "path": _where(name)} for name in MODELS]
    if not output.is_for_people(as_json):
        output.write_json(found)
        return
    table = Table("model", "weights", box=None, header_style="bold")
    for each in found:
        table.add_row(each["model"], each["path"] or f"not here; mellea models pull {each['model']}")
    output.draw(table)


def _where(name: str) -> str | None:
    try:
        return str(find_weights(name))
    except ConfigurationError:
        return None
