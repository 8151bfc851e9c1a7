"""The command line: arguments in, exit codes out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mellea._version import __version__
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, MODELS, find_weights
from mellea.cli.pull import pull
from mellea.errors import ConfigurationError, MelleaError

__all__ = ["main"]

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a failure, 2 for wrong arguments, 130 for Ctrl-C."""
    arguments = _make_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except MelleaError as error:
        print(f"mellea: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mellea: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mellea", description="Generative programs in Python.")
    parser.add_argument("--version", action="version", version=f"mellea {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    models = commands.add_parser("models", help="the embedded models' weights")
    actions = models.add_subparsers(title="commands", required=True, metavar="COMMAND")
    puller = actions.add_parser("pull", help="fetch the weights of a model into the cache")
    puller.add_argument("model", nargs="?", default=DEFAULT_MODEL, help="which model (default: %(default)s)")
    puller.set_defaults(run=_pull)
    actions.add_parser("list", help="list the models, and where their weights are").set_defaults(run=_list)
    return parser


def _pull(arguments: argparse.Namespace) -> None:
    print(pull(arguments.model))


def _list(arguments: argparse.Namespace) -> None:
    for name in MODELS:
        try:
            where = str(find_weights(name))
        except ConfigurationError:
            where = f"not here; `mellea models pull {name}`"
        print(f"{name}\t{where}")
