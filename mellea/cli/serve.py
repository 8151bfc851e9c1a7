"""`mellea serve program.py`: the sessions, agents and functions of a file, for other programs and for people."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from mellea.cli import output
from mellea.cli.programs import find_programs
from mellea.errors import ConfigurationError, MissingExtraError, UsageError
from mellea.serve import app as make_server
from mellea.stdlib.agents import Agent
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.session import MelleaSession

__all__ = ["make_from_environment", "serve"]

_SETTINGS = "MELLEA_SERVE_SETTINGS"
"""Tells the workers, which are separate processes, what to serve; the key is in `MELLEA_SERVE_KEY`."""

_KEY = "MELLEA_SERVE_KEY"

_GRACE_SECONDS = 10
"""How long answers may continue when the server is stopped."""


def serve(
    file: Annotated[str, typer.Argument(metavar="FILE.py[:NAME,…]", help="The program, and what to serve of it.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 chooses a free one.")] = 8000,
    key: Annotated[
        str | None,
        typer.Option(envvar=_KEY, show_envvar=True, help="The key that clients have to send.", show_default=False),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file for state that workers share and that survives a restart."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="The number of processes.")] = 1,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Accept this host name, besides localhost and IP addresses."),
    ] = None,
) -> None:
    """Serve a program over OpenAI's API, and as a chat page.

    This serves the names in the file's __all__, or else all its sessions, agents and generative functions.
    FILE.py:NAME,NAME selects some.
    """
    try:
        import uvicorn  # optional: an extra
        from uvicorn.supervisors import Multiprocess  # optional as well
    except ImportError:
        raise MissingExtraError("mellea serve needs uvicorn; install it with: pip install 'mellea[serve]'") from None
    # On loopback only this machine can connect; anywhere else, strangers' requests would be paid for by this key's
    # owner.
    if key is None and not _is_loopback(host):
        raise UsageError(
            f"anybody who can reach {host} could use your models; give --key (or {_KEY}), or listen on 127.0.0.1"
        )
    if workers > 1 and store is None:
        raise UsageError("several workers need --store FILE, or they can't see each other's chats")
    settings = {"file": file, "store": None if store is None else str(store), "allowed_hosts": allowed_host or []}
    os.environ[_SETTINGS] = json.dumps(settings)
    if key is not None:
        # Through the environment, because other users of the machine can read a process's arguments.
        os.environ[_KEY] = key
    made = make_from_environment()  # errors in the program are reported now, once
    config = uvicorn.Config(
        # Workers are new processes that import the factory by name.
        made if workers == 1 else "mellea.cli.serve:make_from_environment",
        factory=workers > 1,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    _check_port(host, port)
    # Bound before the address is printed: the free port is known by then, and a client can connect at once.
    listening = config.bind_socket()
    listening.listen(config.backlog)
    where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    output.note(f"serving {', '.join(made.models)} at {where}/ (a page) and {where}/v1")
    if workers > 1:
        Multiprocess(config, sockets=[listening]).run()
    else:
        uvicorn.Server(config).run(sockets=[listening])


def _check_port(host: str, port: int) -> None:
    """Refuse a port that can't be listened on; uvicorn would write a line of its own, and end.

    Raises:
        ConfigurationError: another program listens there, or this user may not.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host.strip("[]"), port))
        except OSError as error:
            raise ConfigurationError(
                f"can't listen on port {port} of {host}: {error.strerror or error}; choose another one with --port, or "
                "any that is free with --port 0"
            ) from None


def make_from_environment() -> Any:
    """Return the application that the settings describe; each worker calls it.

    Raises:
        UsageError: the file has nothing that can be served.
    """
    settings = json.loads(os.environ[_SETTINGS])
    module, programs = find_programs(
        settings["file"],
        (MelleaSession, Agent, PromptFunction, AsyncPromptFunction),
        "session, agent or generative function",
    )
    return make_server(
        programs,
        key=os.environ.get(_KEY) or None,
        store=settings["store"],
        allowed_hosts=settings["allowed_hosts"],
        title=module.__name__,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
