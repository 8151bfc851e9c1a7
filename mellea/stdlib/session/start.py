"""Starting sessions, and the default session of a program that starts none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.entrance import entrance
from mellea.errors import UsageError
from mellea.stdlib.session.session import MelleaSession, sessions_around

__all__ = ["current_session", "start_session"]

# Other libraries' names for our arguments; without this they would go to the backend.
_NAMES_ELSEWHERE = {
    **dict.fromkeys(["chat_history", "context", "conversation", "history", "memory"], "it is 'ctx' here: ctx=…"),
    **dict.fromkeys(
        ["deployment", "llm", "model_name", "model_provider", "provider"],
        "the model is named by its provider: start_session('provider/model')",
    ),
}

_default: MelleaSession | None = None


@entrance("start_session")
def start_session(
    model: str | os.PathLike[str] | Sequence[str] | Backend | None = None,
    model_id: str | None = None,
    *,
    backend_name: str | None = None,
    ctx: Context | None = None,
    model_options: Mapping[str, Any] | None = None,
    cache: str | os.PathLike[str] | None = None,
    **backend_kwargs: Any,
) -> MelleaSession:
    """Start a session with a model. Nothing is loaded or connected to before the first call.

    Args:
        model: `"provider/model"`, the provider alone, the path of a `.gguf` file, or a backend; or several names,
            where each model is used if the previous one can't answer. By default `MELLEA_MODEL` from the
            environment, else the embedded model.
        model_id: the model, where `model` is the provider alone.
        backend_name: another name for `model`.
        ctx: what calls remember of each other; by default a `SimpleContext`, which remembers nothing.
        model_options: options for every call.
        cache: an SQLite file that stores answers: repeated requests are answered from it, at no cost.
        backend_kwargs: arguments for the backend's class, such as `base_url`.

    Raises:
        ConfigurationError: the provider or the model is unknown, or the extra that it needs is missing.
        AuthError: the model's key is missing.
        UsageError: an argument is of a wrong type.
    """
    if model is not None and backend_name is not None:
        raise UsageError(f"model={model!r} and backend_name={backend_name!r} are two names for one thing; give one")
    if named := _NAMES_ELSEWHERE.keys() & backend_kwargs.keys():
        raise UsageError(f"start_session takes no argument {min(named)!r}; {_NAMES_ELSEWHERE[min(named)]}")
    # `backend_name` is what Mellea calls it.
    chosen = model if model is not None else backend_name
    if isinstance(chosen, Backend):
        if model_id is not None or backend_kwargs:
            useless = [*([] if model_id is None else ["model_id"]), *backend_kwargs]
            raise UsageError(
                f"a backend was given, so start_session takes no {' and no '.join(map(repr, useless))}; arguments go "
                "to the backend's class, model options into model_options={…}, a context into ctx=…"
            )
        backend = chosen
    else:
        from mellea.backends.registry import get_backend  # lazy: not needed with a given backend

        backend = get_backend(chosen, model_id, **backend_kwargs)
    if cache is not None:
        from mellea.backends.cached import CachedBackend  # lazy: few sessions have one

        backend = CachedBackend(backend, cache)
    session = MelleaSession(backend, ctx, model_options=model_options)
    # Now, without I/O: a missing key is reported when the session is started, not at the first call.
    backend.check_access()
    return session


def current_session() -> MelleaSession:
    """Return the session of the innermost `with` block, or else the default session of the process.

    The default session is created at its first use from the environment, with a `SimpleContext`.
    """
    global _default
    # The innermost block, then the default one.
    if sessions := sessions_around.get():
        return sessions[-1]
    if _default is None:
        _default = start_session()
    return _default
