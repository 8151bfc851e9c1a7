"""Finds the backend for a model's name: `"provider/model"`, the environment, and chains of models."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol, cast

from mellea.backends.built_in import DEFAULT_MODEL, FILE_SUFFIXES, PROVIDERS, SERVICE_HOSTS
from mellea.core.backend import Backend
from mellea.core.entrance import short_errors
from mellea.core.masking import HIDDEN, list_known_secrets, scrub_text
from mellea.core.options import ModelOption
from mellea.core.results import Probe
from mellea.errors import ConfigurationError, MelleaError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["get_backend", "list_models", "list_provider_names", "list_providers_with", "probe"]

ENTRY_POINT_GROUP = "mellea.backends"
"""The group in which another package names its backend classes: `acme = "acme_mellea:AcmeBackend"`."""

_log = logging.getLogger("mellea")


class Offer(Protocol):
    """The names that a provider's class, or a service that it hosts, declares."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names of it."""

    @property
    def model_patterns(self) -> tuple[str, ...]:
        """Patterns of its models' names."""


_REMOTE = frozenset({"api_key", "base_url", "headers", "client", "retries"})
"""Arguments that only make sense for a provider elsewhere, so that the provider has to be named."""

_FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(("key", "apikey", "token", "access_token", "auth", "auth_token", "secret"), "api_key"),
    **dict.fromkeys(("url", "host", "endpoint", "api_base", "base", "server", "address"), "base_url"),
    **dict.fromkeys(("max_retries", "num_retries", "retry"), "retries"),
    **dict.fromkeys(("default_headers", "extra_headers"), "headers"),
    **dict.fromkeys(("http_client", "async_client", "http_async_client", "session"), "client"),
    **dict.fromkeys(("body", "extra_params", "extra"), "extra_body"),
    **dict.fromkeys(("n_ctx", "num_ctx", "context_length", "max_seq_length", "context_size"), "context_window"),
    **dict.fromkeys(("system", "system_message", "instructions"), "system_prompt"),
    **dict.fromkeys(("options", "generation_config", "config", "params", "settings"), "model_options"),
    **dict.fromkeys(("context", "history", "memory"), "ctx"),
    **dict.fromkeys(("request_timeout", "deadline", "deadlines"), "timeout"),
}
"""Other libraries' names for an argument or an option; a provider's name in front, as in `x_api_key`, is ignored."""


_PROXIES = "proxies are read from HTTPS_PROXY and the like; or give client=httpx.AsyncClient(proxy=…)"
_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("proxy", "proxies", "http_proxy", "https_proxy"), _PROXIES),
    **dict.fromkeys(
        ("organization", "org", "organisation", "project"),
        "send it as one of the provider's headers: headers={'…': '…'}",
    ),
    **dict.fromkeys(("verify", "verify_ssl", "ssl_verify"), "SSL_CERT_FILE names your own certificates"),
    "cache": "start_session(…, cache=…) keeps answers",
}
"""What to do about arguments that no backend takes under any name."""


@short_errors
def get_backend(
    model: str | os.PathLike[str] | Sequence[str] | None = None, model_id: str | None = None, **backend_kwargs: Any
) -> Backend:
    """Make the backend of a model. Nothing is loaded or connected to.

    Args:
        model: `"provider/model"`, the provider alone, or the path of a `.gguf` file; or several of them, where
            each one is used if the previous one can't answer. By default `MELLEA_MODEL` from the environment, else the
            embedded model.
        model_id: the model, where `model` is the provider alone.
        backend_kwargs: for the backend's class, such as `base_url`.

    Raises:
        ConfigurationError: the provider is unknown, or its model isn't named.
        UsageError: an argument is of a wrong type.
    """
    if isinstance(model, (list, tuple)):
        return _make_chain(model, model_id, backend_kwargs)
    model, model_id = _check_text("model", model), _check_text("model_id", model_id)
    full = model or os.environ.get("MELLEA_MODEL", "").strip() or DEFAULT_MODEL
    if full == DEFAULT_MODEL and not model and (given := sorted(_REMOTE & backend_kwargs.keys())):
        raise ConfigurationError(
            f"{given[0]}= was given, but no provider: name the provider and the model, as in "
            f"start_session('provider/model', {given[0]}=…), or set MELLEA_MODEL"
        )
    opener = next((who for suffix, who in FILE_SUFFIXES.items() if full.lower().endswith(suffix)), None)
    if opener is not None and not full.startswith(f"{opener}/"):
        full = f"{opener}/{full}"
    provider, _, named = full.partition("/")
    factory = _find_class(provider)
    if factory is None:
        shown = _show_name(full)
        advice = _advise_on_model(full) if shown == full else _ADVICE_ON_KEY
        origin = "unknown model" if model else "MELLEA_MODEL names an unknown model:"
        raise ConfigurationError(f"{origin} {shown!r}: {advice}")
    if provider != factory.name and provider in factory.services:
        backend_kwargs["service"] = provider
    chosen = model_id or named
    if not chosen and _needs_model(factory):
        raise ConfigurationError(f"{full!r} doesn't name a model; name one, as in '{provider}/…', or with model_id=")
    _check_arguments(factory, backend_kwargs)
    # Each class has its own parameters, which have just been compared with the arguments.
    make = cast("Callable[..., Backend]", factory)
    return make(chosen, **backend_kwargs) if chosen else make(**backend_kwargs)


async def list_models(provider: str, **backend_kwargs: Any) -> list[str]:
    """Return the names of the models that a provider offers.

    Args:
        provider: its name.
        backend_kwargs: arguments for the provider's class, such as `api_key`.

    Raises:
        ConfigurationError: the provider is unknown.
        BackendError: it can't be reached, or rejects the request.
    """
    factory = _find_class(provider)
    has_default = factory is not None and factory.default_model is not None
    backend = get_backend(provider, None if has_default else "any", **backend_kwargs)
    try:
        return await backend.list_models()
    finally:
        await backend.aclose()


async def probe(model: str, **backend_kwargs: Any) -> Probe:
    """Return whether a model can be reached, and why not.

    Args:
        model: as for `get_backend`.
        backend_kwargs: arguments for the provider's class, such as `base_url`.

    Raises:
        ConfigurationError: the provider is unknown.
    """
    backend = get_backend(model, **backend_kwargs)
    try:
        return await backend.probe()
    finally:
        await backend.aclose()


def list_provider_names() -> list[str]:
    """Return the names of all providers, including those of other packages."""
    hosted = (name for host in SERVICE_HOSTS for name in _load(host).services)
    return sorted({*PROVIDERS, *hosted, *(entry.name for entry in _load_entry_points())})


def list_providers_with(capability: str) -> list[str]:
    """Return the names of the providers that have a capability, by its field in `Capabilities`."""
    return sorted(name for name, cls in _load_all_classes().items() if getattr(cls.capabilities, capability))


# -- finding a provider's class ---------------------------------------------------------------------------


def _find_class(name: str) -> type[Backend] | None:
    """Return a provider's class: a built-in one, that of a hosted service, or another package's."""
    if name in PROVIDERS:
        return _load(name)
    for host in SERVICE_HOSTS:
        if name in (cls := _load(host)).services:
            return cls
    entry = next((entry for entry in _load_entry_points() if entry.name == name), None)
    return None if entry is None else _load_entry(entry)


def _load(name: str) -> type[Backend]:
    module, _, cls = PROVIDERS[name].partition(":")
    # Lazy: only programs that use a provider pay for its import.
    return cast("type[Backend]", getattr(importlib.import_module(module), cls))


def _load_entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # lazy: it reads the metadata of all installed packages

    return entry_points(group=ENTRY_POINT_GROUP)


def _load_entry(entry: EntryPoint) -> type[Backend]:
    """Import another package's backend class.

    Raises:
        ConfigurationError: it can't be imported, or isn't a backend class.
    """
    try:
        cls = entry.load()
    except MelleaError:  # such as the error for a missing extra, which says what to do
        raise
    except Exception as error:  # importing another package's code may raise anything
        raise ConfigurationError(
            f"the provider {entry.name!r} can't be loaded from {entry.value!r}: {error!r}; reinstall or update the "
            f"package that provides it"
        ) from error
    if isinstance(cls, type) and issubclass(cls, Backend):
        return cls
    raise ConfigurationError(
        f"the provider {entry.name!r} is not a Backend class but {cls!r}; its package has to name one in "
        f"the entry point group {ENTRY_POINT_GROUP!r}"
    )


def _load_all_classes() -> dict[str, type[Backend]]:
    """Load every provider's class, for advice in an error; those that can't be loaded are left out."""
    found = {name: _load(name) for name in PROVIDERS}
    for entry in _load_entry_points():
        try:
            cls = _load_entry(entry)
            if entry.name not in cls.services:  # built-in providers are named by their class
                found.setdefault(entry.name, cls)
        except ConfigurationError as error:
            _log.debug("left out of the advice: %s", error)
    return found


# -- reading the arguments ---------------------------------------------------------------------------------


def _make_chain(models: Sequence[Any], model_id: str | None, backend_kwargs: Mapping[str, Any]) -> Backend:
    if model_id is not None or backend_kwargs:
        given = [*(["model_id"] if model_id is not None else []), *backend_kwargs]
        raise UsageError(
            f"a chain of models doesn't take {given[0]!r}, which belongs to a single model; make the backends "
            "with get_backend(…) and chain them with mellea.backends.FallbackBackend([…])"
        )
    fallback = importlib.import_module("mellea.backends.fallback")  # lazy: see above
    return cast("Backend", fallback.FallbackBackend([get_backend(model) for model in models]))


def _check_text(name: str, value: Any) -> str | None:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    raise UsageError(f"{name} takes a string such as {DEFAULT_MODEL!r}, not {shown}")


def _needs_model(factory: type[Backend]) -> bool:
    """Return whether the first parameter of a backend class, which is the model, has no default."""
    first = next(iter(inspect.signature(factory).parameters.values()), None)
    return (
        first is not None
        and first.default is first.empty
        and first.kind in (first.POSITIONAL_OR_KEYWORD, first.POSITIONAL_ONLY)
    )


def _check_arguments(factory: Any, arguments: Mapping[str, Any]) -> None:
    taken: set[str] = set()
    for cls in factory.__mro__:  # a class passes unknown arguments on to its base class
        parameters = inspect.signature(cls.__init__).parameters
        taken |= {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    for name in sorted(arguments.keys() - taken):
        raise UsageError(
            f"{factory.__name__} takes no argument {name!r}; "
            f"{_advise_on_argument(name, taken, frozenset(map(str, ModelOption)))}"
        )


# -- advice in errors ---------------------------------------------------------------------------------------


_FORM = "a model is named 'provider/model'; `mellea models list --all` shows all providers"

_NEAR = 3
"""How many providers with similar names an error shows; there are some 25."""


_ADVICE_ON_KEY = f"it looks like a key, which is passed as api_key=; {_FORM}"

_KEY_STARTS = ("sk-", "sk_", "rk-", "rk_", "gsk_")
"""How keys begin, and no model's name does."""


def _show_name(name: str) -> str:
    """Return a name for an error, without what looks like a key: one may have been pasted in its place."""
    return HIDDEN if name.strip().startswith(_KEY_STARTS) else scrub_text(name, list_known_secrets())


_STAND_INS = frozenset({"dummy", "echo", "fake", "mock", "script", "scripted", "stub", "test", "testing"})
"""What others call a provider for tests."""

_ADVICE_ON_TESTS = (
    "a model for tests is an object: start_session(ScriptedBackend('an answer')), from mellea.testing import "
    "ScriptedBackend"
)


def _advise_on_model(model: str) -> str:
    """Return advice on a model name with an unknown provider."""
    endings = " or ".join(map(repr, FILE_SUFFIXES))
    if os.path.isdir(model):
        return f"it is a folder; give the path of a model's file in it, which ends in {endings}"
    if os.path.isfile(model):
        return f"it is a file, but not a model's; the name of a model's file ends in {endings}"
    if model.partition("/")[0].lower() in _STAND_INS:
        return _ADVICE_ON_TESTS
    offers = _list_offers()
    known = list_provider_names()
    provider, divider, rest = model.partition("/" if "/" in model or ":" not in model else ":")
    meant = _find_similar_provider(provider, known, offers)
    if meant is not None:
        named = f"{meant}/{rest}" if divider and rest else meant
        return f"did you mean {named!r}? {_FORM}"
    ways = [f"{offer}/{model}" for offer in _find_likely_providers(model, offers)]
    hint = f"did you mean {' or '.join(map(repr, ways))}? " if ways else ""
    near = difflib.get_close_matches(provider.lower()[:40], known, n=_NEAR, cutoff=0.6)
    nearest = f"; similar are {', '.join(map(repr, near))}" if near else ""
    return f"there is no provider {provider!r}{nearest}; {hint}{_FORM}"


def _advise_on_argument(name: str, taken: Collection[str], options: Collection[str]) -> str:
    """Return advice on an argument that a backend's class doesn't take.

    Args:
        name: the argument.
        taken: those that it takes.
        options: the model options, which go elsewhere.
    """
    plain = name.lower()
    if plain in _STAND_INS:
        return _ADVICE_ON_TESTS
    if plain in _ADVICE:
        return _ADVICE[plain]
    # Some libraries prefix it with the provider's name.
    ours = _FOREIGN.get(plain) or next((_FOREIGN[end] for end in _list_endings(plain) if end in _FOREIGN), name)
    if ours in taken and ours != name:
        return f"it is {ours!r} here"
    if ours in options or ours == "model_options":
        inside = "…" if ours == "model_options" else f"{ours!r}: …"
        return f"model options go into model_options={{{inside}}}"
    near = difflib.get_close_matches(name, taken, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}it takes {', '.join(sorted(taken))}, and model options go into model_options={{…}}"


def _list_endings(name: str) -> list[str]:
    """Return the suffixes of a snake case name: without its first word, its first two words, and so on."""
    words = name.split("_")
    return ["_".join(words[number:]) for number in range(1, len(words))]


def _list_offers() -> dict[str, Offer]:
    """Return the providers and the services that they host, by name."""
    classes = _load_all_classes()
    hosted = {name: service for cls in classes.values() for name, service in cls.services.items()}
    return {**classes, **hosted}


def _find_similar_provider(name: str, known: Collection[str], offers: Mapping[str, Offer]) -> str | None:
    """Return the provider of which a name is another spelling, `None` if there is none."""
    plain = _simplify(name)
    by_plain = {_simplify(alias): one for one, offer in offers.items() for alias in offer.aliases}
    found = {**by_plain, **{_simplify(one): one for one in known}}.get(plain)
    if found is not None:
        return found
    near = difflib.get_close_matches(name.lower()[:40], known, n=1, cutoff=0.75)
    return near[0] if near else None


def _simplify(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find_likely_providers(model: str, offers: Mapping[str, Offer]) -> list[str]:
    """Return the likely providers of a model: the best match for the end of its name, and all matches for the whole
    name.

    A pattern with a slash is for names such as `organisation/model`, and several providers may offer these.
    """
    last, found, whole = model.rpartition("/")[2].lower(), list[tuple[int, str]](), list[str]()
    is_path = model.startswith(("/", ".", "~"))
    for name, offer in offers.items():
        for pattern in offer.model_patterns:
            if "/" not in pattern and fnmatchcase(last, pattern):
                found.append((len(pattern), name))
            elif "/" in pattern and not is_path and fnmatchcase(model, pattern):
                whole.append(name)
    best = [max(found, key=lambda match: match[0])[1]] if found else []
    return best + whole
