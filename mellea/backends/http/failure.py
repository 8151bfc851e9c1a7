"""Converts an HTTP client's exceptions to mellea's errors.

The kinds are distinguished by class names, which httpx, httpx2 and their transports share, so that no
client library has to be imported. Only the root cause of the client's error is kept: the error itself holds the
request, and the request holds the key.
"""

from __future__ import annotations

import socket

from mellea.backends.http.proxies import Proxy
from mellea.errors import BackendError, ConnectError, DeadlineError, MelleaError, UsageError, WireError

__all__ = ["find_root", "make_failure_error"]

_SLOW = frozenset({"ConnectTimeout", "PoolTimeout", "ReadTimeout", "WriteTimeout", "TimeoutException"})


def make_failure_error(
    error: BaseException,
    origin: str,
    seconds: float | None,
    proxy: Proxy | None = None,
    *,
    may_have_proxy: bool = False,
) -> MelleaError:
    """Return the error for a request that got no answer.

    Args:
        error: the client's exception.
        origin: the server's URL, without secrets.
        seconds: the deadline for the connection.
        proxy: the proxy of the request.
        may_have_proxy: whether the client may use a proxy that isn't known, since it is the caller's own.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    root = find_root(error)
    if proxy is not None and isinstance(root, (ConnectionRefusedError, socket.gaierror)):
        failure: MelleaError = _make_proxy_error(root, origin, proxy)
    else:
        through = "" if proxy is None else f" through the proxy {proxy.place!r} of {proxy.variable}"
        failure = _make_failure(names, error, root, f"{origin}{through}", seconds)
    if may_have_proxy and isinstance(root, (ConnectionRefusedError, socket.gaierror)):
        failure.args = (f"{failure.args[0]} If your client= uses a proxy, it may be the proxy that can't be reached.",)
    if isinstance(root, OSError) and not isinstance(failure, DeadlineError):
        root.__traceback__ = root.__context__ = root.__cause__ = None
        failure.__cause__ = root
    return failure


def find_root(error: BaseException) -> BaseException:
    """Return an error's root cause: the operating system's error, if there is one."""
    chain: list[BaseException] = []
    before: BaseException | None = error
    while before is not None and before not in chain:
        chain.append(before)
        before = before.__cause__ or before.__context__
        if isinstance(before, BaseExceptionGroup):
            before = before.exceptions[0]  # one of a host's addresses represents all
    # A time-out is caused by a cancellation, which isn't an `Exception` and has no message.
    kinds: tuple[type[Exception], ...] = (OSError, Exception)
    return next((cause for kind in kinds for cause in reversed(chain) if isinstance(cause, kind)), error)


def _make_failure(
    names: set[str], error: BaseException, root: BaseException, origin: str, seconds: float | None
) -> MelleaError:
    said = str(root) or str(error) or type(root).__name__
    if names & _SLOW and _is_slow(root):
        if names & {"ConnectTimeout", "PoolTimeout"}:
            return _make_too_slow_error(origin, seconds)
        return DeadlineError(f"{origin} was silent for too long; raise the deadline", is_retryable=True)
    if names & {"UnsupportedProtocol", "InvalidURL", "LocalProtocolError", "InvalidUrlClientError"}:
        return UsageError(f"the request to {origin} can't be sent: {said}; check base_url and headers")
    if names & {"RemoteProtocolError"} and type(root).__name__ == "InvalidURL":
        return WireError(f"{origin} redirects to something that isn't an address: {said}; check base_url")
    if type(root).__module__.startswith("h11") or "ClientResponseError" in names:
        return WireError(f"what listens at {origin} doesn't speak HTTP: {said}; check base_url")
    if type(root).__name__ == "SSLCertVerificationError":
        return ConnectError(f"the certificate of {origin} is not trusted: {said}; SSL_CERT_FILE names your own")
    if isinstance(root, ConnectionRefusedError):
        return ConnectError(f"nothing listens at {origin}: {said}; is the server running?", is_retryable=True)
    if isinstance(root, socket.gaierror):
        advice = "is there a network, and is the name right?"
        return ConnectError(f"{origin} can't be found: {said}; {advice}", is_retryable=True)
    # aiohttp says only that the connection was lost if the server hangs up in the handshake; its adapter calls that a
    # time-out.
    is_lost = isinstance(root, ConnectionError) and origin.startswith("https:")
    is_handshake = names & {"ConnectError", "ConnectTimeout"} and (type(root).__name__.startswith("SSL") or is_lost)
    advice = "; does it speak https, or only http://?" if is_handshake else ""
    return ConnectError(f"no answer from {origin}: {said}{advice}", is_retryable=True)


def _make_proxy_error(root: OSError, origin: str, proxy: Proxy) -> ConnectError:
    """Return the error for a proxy that can't be reached; only the proxy itself looks for the server."""
    what = f"the proxy {proxy.place!r} of {proxy.variable}"
    problem = f"nothing listens at {what}" if isinstance(root, ConnectionRefusedError) else f"{what} can't be found"
    return ConnectError(
        f"{problem}, which {origin} is reached through: {root}; is the proxy running, and its address right? To reach "
        f"the server directly, name it in NO_PROXY, or unset {proxy.variable}",
        is_retryable=True,
    )


def _is_slow(root: BaseException) -> bool:
    # aiohttp's adapter reports a broken connection as a time-out, too.
    # A handshake interrupted by the deadline reports that it wants to read.
    if isinstance(root, TimeoutError) or type(root).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
        return True
    return not (isinstance(root, OSError) or type(root).__module__[:7] == "aiohttp")


def _make_too_slow_error(origin: str, seconds: float | None) -> BackendError:
    within = "in time" if seconds is None else f"within {seconds:g} s"
    return DeadlineError(
        f"no connection to {origin} {within}; raise the deadline with model_options={{'timeout': Deadlines(…)}}",
        is_retryable=True,
    )
