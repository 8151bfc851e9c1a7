"""A provider declares itself in its class; the registry finds classes in one table, and in other packages."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.backends import get_backend
from mellea.backends.built_in import DEFAULT_MODEL, FILE_SUFFIXES, PROVIDERS
from mellea.backends.http.backend import HttpBackend
from mellea.backends.registry import list_provider_names, list_providers_with
from mellea.core.backend import Backend, Capabilities, Request, check_supported
from mellea.core.events import Event, StreamEnd, TextDelta
from mellea.core.options import ModelOption
from mellea.errors import ConfigurationError, UnsupportedError, UsageError
from tests.backends.test_every_wire import WIRES

ROOT = Path(mellea.__file__).parent


def find_backend_class(name: str) -> type[Backend]:
    module, _, cls_name = PROVIDERS[name].partition(":")
    cls: type[Backend] = getattr(importlib.import_module(module), cls_name)
    return cls


class AcmeBackend(Backend):
    """The class that another package names in its entry points."""

    name = "acme"
    aliases = ("acme_ai",)
    model_patterns = ("rocket*",)
    services = {"acme_eu": type("Eu", (), {"aliases": (), "model_patterns": ()})()}  # noqa: RUF012
    capabilities = Capabilities(files=True)

    def __init__(self, model_id: str, *, service: str = "acme", fuel: int = 1) -> None:
        super().__init__()
        self.model_id, self.service, self.fuel = model_id, service, fuel

    async def run(self, request: Request) -> AsyncIterator[Event]:
        yield TextDelta("whoosh")
        yield StreamEnd("stop")


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package that is installed, with a good provider, a broken one and something else."""
    info = tmp_path / "acme_mellea-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-mellea\nVersion: 1.0\n")
    here = f"{__name__}:AcmeBackend"
    (info / "entry_points.txt").write_text(
        f"[mellea.backends]\nacme = {here}\nacme_eu = {here}\nopenai = {here}\n"
        "broken = no_such_module_here:X\nodd = json:loads\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("acme")
def test_another_package_brings_a_provider() -> None:
    m = mellea.start_session("acme/rocket-1", fuel=3)
    assert isinstance(m.backend, AcmeBackend)
    assert (m.backend.model_id, m.backend.fuel, m.backend.service) == ("rocket-1", 3, "acme")
    assert m.instruct("Go!").value == "whoosh"
    eu: Any = get_backend("acme_eu/rocket-1")
    assert eu.service == "acme_eu"


@pytest.mark.usefixtures("acme")
def test_its_errors_are_those_of_a_built_in_one() -> None:
    with pytest.raises(ConfigurationError, match="doesn't name a model"):
        get_backend("acme")
    with pytest.raises(UsageError, match=r"AcmeBackend takes no argument 'thrust'.*it takes fuel, service"):
        get_backend("acme/rocket-1", thrust=1)
    for wrong, meant in (("rocket-1", "acme/rocket-1"), ("Acme-AI/x", "acme/x"), ("acmee/x", "acme/x")):
        with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
            get_backend(wrong)


@pytest.mark.usefixtures("acme")
def test_a_built_in_provider_cannot_be_replaced_from_outside() -> None:
    assert get_backend("openai/x", api_key="k").name == "openai"


@pytest.mark.usefixtures("acme")
def test_advice_in_errors_knows_other_packages_and_survives_broken_ones() -> None:
    assert "acme" in list_providers_with("files") and "anthropic" in list_providers_with("files")
    assert {"acme", "acme_eu", "broken", "groq", *PROVIDERS} <= set(list_provider_names())
    with pytest.raises(UnsupportedError, match="use a model of acme, anthropic"):
        file = mellea.user_message(mellea.FileBlock("text/plain", b"x"))
        check_supported(get_backend("llama_cpp"), Request((file,)))


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("name", "why"), [("broken", r"can't be loaded from 'no_such_module_here:X'"), ("odd", "not a Backend class")]
)
def test_a_broken_package_is_named(name: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the provider '{name}'.*{why}|{why}"):
        get_backend(f"{name}/x")


def test_what_a_class_declares_agrees_with_the_table() -> None:
    for name in PROVIDERS:
        assert find_backend_class(name).name == name
    provider, _, model = DEFAULT_MODEL.partition("/")
    backend = get_backend(provider)
    assert backend.model_id == model == type(backend).default_model
    assert set(FILE_SUFFIXES.values()) <= set(PROVIDERS)


# -- what a new provider must not be left out of -------------------------------------------------------------

TESTS = Path(__file__).parent
REMOTE = [name for name in PROVIDERS if issubclass(find_backend_class(name), HttpBackend)]


@pytest.mark.parametrize("name", REMOTE)
def test_every_server_fault_is_tried_on_a_remote_provider(name: str) -> None:
    tried = {type(wire.make("http://127.0.0.1:9")) for wire in WIRES}
    assert find_backend_class(name) in tried, f"{name} has no Wire in WIRES of tests/backends/test_every_wire.py"


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_page_of_providers_has_a_provider_in_each_table(name: str) -> None:
    script = runpy.run_path(str(ROOT.parent / "scripts" / "providers"))
    assert name in {shown for shown, _ in script["backends"]()}, f"{name} isn't in backends() of scripts/providers"
    assert any(row.startswith(f"| {name} |") for row in script["places"]()), f"{name} isn't in places() there"


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_has_tests_of_its_own(name: str) -> None:
    assert (TESTS / name / "test_backend.py").is_file(), f"tests/backends/{name}/test_backend.py is missing"


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize(
    "file",
    ["test_side_information.py", "test_tool_choice.py", "test_tool_results.py", "../stdlib/agents/test_every_wire.py"],
)
def test_what_holds_on_every_wire_is_tried_on_a_provider_with_tools(name: str, file: str) -> None:
    capabilities = find_backend_class(name).capabilities
    if not capabilities.tools or (
        file == "test_tool_choice.py" and ModelOption.TOOL_CHOICE not in capabilities.options
    ):
        pytest.skip("it has no tools, or no choice of a tool")
    assert f".backends.{name}" in (TESTS / file).read_text("utf-8"), f"{name} isn't in the table of {file}"


def test_a_provider_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, mellea, mellea.backends.registry; rooms = lambda: {n.split('.')[2] for n in sys.modules if "
        "n.startswith('mellea.backends.')} & {'anthropic', 'gemini', 'llama_cpp', 'ollama', 'openai', 'http'}; "
        "first = rooms(); mellea.get_backend('ollama/x'); print(sorted(first), sorted(rooms()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[] ['http', 'ollama']", done.stderr


CORE = [file for file in sorted((ROOT / "core").rglob("*.py")) if file.name != "prices.py"]  # a table of who asks what


@pytest.mark.parametrize("file", [*CORE, ROOT / "backends/registry.py"], ids=lambda file: file.name)
def test_core_and_registry_name_no_provider(file: Path) -> None:
    """What is special about a provider stands in its room."""
    text = file.read_text("utf-8")
    # A library whose frames are left out of tracebacks is not a provider.
    found = set(re.findall(r"(?i)\w*(?:openai|anthropic|gemini|ollama|llama|huggingface|groq)\w*", text)) - {
        "xllamacpp"
    }
    assert not found
