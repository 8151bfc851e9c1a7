"""What the log says of a call: a line at INFO when it is over, its request and its end at DEBUG; never any content.

The ledger gets what it cost.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from mellea.core.runtime.ledger import enter_request

if TYPE_CHECKING:
    from mellea.core.accumulator import Generation
    from mellea.core.runtime.ledger import Ledger
    from mellea.core.runtime.record import Record

__all__ = ["log_end", "log_request"]

_log = logging.getLogger("mellea")


def log_request(run: Record) -> None:
    """Say what a request asks for."""
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("request: %r", run.sent)


def log_end(run: Record, said: Generation, opened: float, ledger: Ledger | None) -> None:
    """Say how a request ended: the model, seconds, tokens, why it stopped or failed; and enter what it cost.

    Args:
        run: has ended, or goes on with another request.
        said: what the request came to.
        opened: when its request was sent, as `time.monotonic()` tells.
        ledger: that of the session.
    """
    if ledger is not None:
        enter_request(ledger, run, said)
    if not opened or not _log.isEnabledFor(logging.INFO):
        return
    seconds = time.monotonic() - opened
    usage = said.usage
    tokens = "? + ? tokens" if usage is None else f"{usage.input_tokens} + {usage.output_tokens} tokens"
    end = said.finish_reason if run.error is None else type(run.error).__name__
    _log.info("%s/%s: %.2f s, %s, %s", run.backend, said.model or run.model, seconds, tokens, end)
    if run.time_to_first_token is not None:
        _log.debug(
            "%s: first token after %.3f s, %d events", said.response_id, run.time_to_first_token, len(run.events)
        )
