"""A session with LM Studio; if none is set up, the embedded engine's own server takes its place."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import mellea
from mellea.testing.engine_server import engine_server


@contextmanager
def open_session() -> Iterator[mellea.MelleaSession]:
    """Start a session, for the length of a `with` block outside of event loops."""
    options = {"max_tokens": 60, "seed": 1}
    if os.environ.get("LMSTUDIO_MODEL"):  # LMSTUDIO_BASE_URL and LMSTUDIO_API_KEY are read as well
        yield mellea.start_session("lmstudio", model_options=options)
        return
    print("LMSTUDIO_MODEL isn't set, so the embedded engine serves its own model.", file=sys.stderr)
    with engine_server() as server:
        address = {"base_url": server.url, "api_key": server.api_key}
        yield mellea.start_session("lmstudio", server.model, model_options=options, **address)
