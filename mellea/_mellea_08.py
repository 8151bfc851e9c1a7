"""Maps names of Mellea 0.8 to their places and names here.

One table serves both kinds: a name that one of our packages lacks, and a module that doesn't exist here.
`_lazy_exports` asks it for a name that a front door doesn't know, and for a module that Python can't find, which
`Loader` then makes. Nothing is loaded before it is needed, and type checkers see only our own names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import abc, import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["ELSEWHERE", "INSTEAD", "MISSING", "OTHERS", "Loader", "load"]


def _names(home: str, names: str) -> dict[str, str]:
    return {name: f"{home}:{name}" for name in names.split()}


_COMPONENTS = _names("mellea.core", "CBlock Component ImageBlock ModelOutputThunk TemplateRepresentation")
_TOOLS = {"MelleaTool": "mellea.stdlib.tools:Tool", "tool": "mellea.stdlib.tools:tool"}
_REQUIREMENTS = _names("mellea.stdlib.requirements", "check req simple_validate")
_STRATEGIES = _names(
    "mellea.stdlib.sampling", "MultiTurnStrategy RejectionSamplingStrategy RepairTemplateStrategy SamplingResult"
)
_LOGGER = _names("mellea._shapes_08", "MelleaLogger")
_FUNCTIONS = {"PreconditionException": "mellea.errors:RequirementError", **_names("mellea", "generative")}

ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "mellea": {
        **_names("mellea.core", "Component Context Requirement SamplingResult TemplateRepresentation ValidationResult"),
        **_names("mellea.stdlib.components", "Document Instruction SimpleComponent"),
        **_REQUIREMENTS,
        **_LOGGER,
        **_names("mellea._shapes_08", "start_backend"),
        "RejectionSamplingStrategy": "mellea.stdlib.sampling:RejectionSamplingStrategy",
        "model_ids": "mellea.backends.model_ids",
    },
    "mellea.backends": {
        **_TOOLS,
        "ModelIdentifier": "mellea.backends.model_ids:ModelIdentifier",
        "model_ids": "mellea.backends.model_ids",
    },
    "mellea.backends.model_options": _names("mellea.core", "ModelOption"),
    "mellea.backends.tools": _TOOLS,
    "mellea.core": _LOGGER,
    "mellea.core.requirement": _names("mellea._streams_08", "PartialValidationResult"),
    "mellea.core.base": {
        **_COMPONENTS,
        **_names("mellea.core", "ComputedModelOutputThunk Context"),
        "ContextTurn": "mellea.core:Turn",
    },
    "mellea.stdlib.components": _names("mellea.core", "ImageBlock ModelOutputThunk"),
    "mellea.stdlib.components.chat": {
        **_names("mellea.core", "Message"),
        **_names("mellea._shapes_08", "as_chat_history"),
    },
    "mellea.stdlib.components.docs": _names("mellea.stdlib.components", "Document"),
    "mellea.stdlib.components.docs.document": _names("mellea.stdlib.components", "Document"),
    "mellea.stdlib.components.genslot": _FUNCTIONS,
    "mellea.stdlib.components.genstub": _FUNCTIONS,
    "mellea.stdlib.components.mify": {
        "MifiedProtocol": "mellea.stdlib.components.mobject:MifiedProtocol",
        "mify": "mellea.stdlib.components.mobject:mify",
    },
    "mellea.stdlib.requirements.requirement": {
        **_REQUIREMENTS,
        **_names("mellea.stdlib.requirements", "Requirement ValidationResult"),
    },
    "mellea.stdlib.requirements.tool_reqs": _names("mellea.stdlib.requirements", "tool_arg_validator uses_tool"),
    "mellea.core.utils": _LOGGER,
    "mellea.stdlib.sampling.base": _STRATEGIES,
    "mellea.stdlib.sampling.sofai": _names("mellea._shapes_08", "SOFAISamplingStrategy"),
    "mellea.stdlib.session": {"get_session": "mellea.stdlib.session:current_session"},
    "mellea.stdlib.streaming": {
        **_names(
            "mellea._streams_08",
            "ChunkEvent CompletedEvent ErrorEvent FullValidationEvent QuickCheckEvent RetryEvent StreamEvent Streamer "
            "StreamingDoneEvent stream",
        ),
        "EventStreamer": "mellea._streams_08:Streamer",
    },
    "mellea.stdlib.start_backend": _names("mellea._shapes_08", "start_backend"),
}
"""By module: a name of 0.8, and where it is here, as `"module:name"`, or the module itself."""


def _advise(advice: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), advice)


_CHECKS = (
    "a requirement names the unit that it checks, and every stream checks it: "
    "Requirement('…', stream_validation_fn=f, scope='word'), where f(chunk) returns False to reject it"
)
_EVENTS = "m.stream('…', requirements=[…]).events() reports each piece of text, check and attempt"
_COMPACTORS = (
    "a compactor is any function that takes turns and returns turns: ChatContext(compactor=f); "
    "window_size=5 keeps the last turns, and ctx.pin(…) keeps one for good"
)
_INTERPRETERS = (
    "pass your own tool, which runs the code where you want it to run, or the provider's, "
    "such as mellea.backends.anthropic.tools.code_execution()"
)
_FUNCTION_TOOL = (
    "a tool is a function, whose annotations and docstring say what the model sees: @tool, or "
    "Tool(function, name='…') of mellea.stdlib.tools"
)
_PROGRAMS = "`mellea serve program.py` serves the sessions, agents and generative functions of a program"
_MATHS = "MajorityVotingStrategy(key=f) counts two answers as equal if f(answer) is equal"
_LOCAL = "serve the model with vLLM, llama-server or Ollama, and name it, as in start_session('vllm/my-model')"
_CLOUDS = "name the model by its provider, as in start_session('provider/model'); `mellea models list --all` shows them"

_TELEMETRY = (
    "mellea.telemetry.enable(), or MELLEA_TELEMETRY=otlp or console, switches OpenTelemetry on; nothing has to be "
    "asked first: while it is off, it costs nothing"
)
_TRACES = "@mellea.trace, or with mellea.traces.start('name'), makes a span; OpenTelemetry's own API makes others"
_METERS = "opentelemetry.metrics.get_meter('name') makes instruments of your own; Mellea's come with telemetry.enable()"
_RECORDS = "with mellea.traces.start('name'), or m.id, marks what belongs together; mellea.observe(…) sees all of it"
_METRIC_NAMES = "create_counter create_histogram create_up_down_counter"

INSTEAD: Mapping[str, Mapping[str, str]] = {
    "mellea.core.base": _advise(_FUNCTION_TOOL, "AbstractMelleaTool"),
    "mellea.core.requirement": _advise(_CHECKS, "PartialValidationSummary"),
    "mellea.serve": _advise(_PROGRAMS, "ChatMessage MessageContent TextContent"),
    "mellea.stdlib.context": {
        **_advise(
            _COMPACTORS, "Compactor InlineCompactor PinPredicate pin_nothing pin_system pin_system_and_initial_user"
        ),
        "LLMSummarizeCompactor": "SummaryCompactor(call) lets a model summarise the older turns",
    },
    "mellea.stdlib.sampling": _advise(_MATHS, "MBRDRougeLStrategy MajorityVotingStrategyForMath"),
    "mellea.stdlib.streaming": _advise(_EVENTS, "stream_with_chunking"),
    "mellea.telemetry": {
        **_advise(
            _TELEMETRY,
            "is_application_tracing_enabled is_backend_tracing_enabled is_content_tracing_enabled is_metrics_enabled "
            "is_tracing_enabled",
        ),
        **_advise(
            _TRACES,
            "end_backend_span set_span_attribute set_span_error start_backend_span trace_application trace_backend",
        ),
        **_advise(_METERS, _METRIC_NAMES),
        **_advise(
            _RECORDS,
            "MelleaContextFilter async_with_context generate_request_id get_current_context get_model_id "
            "get_request_id get_sampling_iteration get_session_id with_context",
        ),
    },
    "mellea.telemetry.metrics": {**_advise(_METERS, _METRIC_NAMES), **_advise(_TELEMETRY, "is_metrics_enabled")},
    "mellea.stdlib.tools": _advise(
        _INTERPRETERS, "bash_executor code_interpreter local_code_interpreter make_execution_environment python_tool"
    ),
}
"""By module: a name of 0.8 that isn't here, and what to write instead."""

MISSING: Mapping[str, str] = {
    "mellea.backends.bedrock": _CLOUDS,
    "mellea.backends.huggingface": _LOCAL,
    "mellea.backends.litellm": _CLOUDS,
    "mellea.backends.vllm": _LOCAL,
    "mellea.backends.watsonx": _CLOUDS,
    "mellea.core.chunking": _CHECKS,
    "mellea.formatters": "a component says how a model sees it: TemplateRepresentation(self, args, template='…')",
    "mellea.plugins": "a mellea.Observer sees every call, attempt, check and tool: with mellea.observe(observer)",
    "mellea.stdlib.context.compactor": _COMPACTORS,
    "mellea.stdlib.frameworks": "mellea.Agent(model, tools) works in steps, with tools",
    "mellea.stdlib.tools.interpreter": _INTERPRETERS,
    "mellea.telemetry.backend_instrumentation": _TELEMETRY,
    "mellea.telemetry.context": _RECORDS,
    "mellea.telemetry.logging": _TELEMETRY,
    "mellea.telemetry.metrics_plugins": _TELEMETRY,
    "mellea.telemetry.pricing": "mellea.prices.set_prices({…}) replaces prices, and .cost is what a call has cost",
    "mellea.telemetry.tracing": _TRACES,
    "mellea.telemetry.tracing_plugins": _TELEMETRY,
}
"""A module of 0.8 that isn't here, and what to write instead."""


_AGENTS = "from mellea import Agent, Limits"
_SESSIONS = "from mellea import start_session, and start_session('provider/model') starts a session"
_TYPES = "messages, thunks and contexts are in mellea.core, and format= takes any type"

OTHERS: Mapping[str, str] = {
    **_advise(_AGENTS, "mellea.agent mellea.agents"),
    **_advise(
        _SESSIONS,
        "mellea.anthropic mellea.chat_models mellea.client mellea.clients mellea.gemini mellea.llm mellea.llms "
        "mellea.model mellea.models mellea.ollama mellea.openai mellea.provider mellea.providers mellea.session",
    ),
    **_advise(_TYPES, "mellea.messages mellea.output_parsers mellea.schema mellea.schemas mellea.types"),
    **_advise("text with {{name}} in it is a template: m.instruct(…, user_variables={…})", "mellea.prompts"),
    "mellea.memory": "a ChatContext remembers: from mellea.stdlib.context import ChatContext",
    "mellea.requirements": "from mellea.stdlib.requirements import req, simple_validate",
    "mellea.sampling": "from mellea.stdlib.sampling import RejectionSamplingStrategy",
}
"""A module that other libraries have under such a name, and what to write instead."""

# Names that programs of other libraries take from theirs, apart from methods of sessions.
_BEGINNINGS: Mapping[str, str] = {
    **_advise(
        "mellea.start_session(…) starts a session",
        "Anthropic AsyncAnthropic AsyncClient AsyncOpenAI ChatAnthropic ChatModel ChatOpenAI Client LLM Model OpenAI "
        "Session session configure connect from_openai from_provider get_model init_chat_model patch",
    ),
    **_advise(
        "mellea.Agent(model, tools) works in steps, with tools",
        "AgentExecutor Runner agent create_agent create_react_agent",
    ),
    **_advise(
        "any function can be a tool; @mellea.tool adds settings",
        "BaseTool FunctionTool StructuredTool Tool function_tool",
    ),
    **_advise(
        "mellea.req('…', validation_fn=…) is a requirement", "Guardrail ModelRetry Validator guardrail requirement"
    ),
    **_advise(
        "text with {{name}} in it is a template: m.instruct(…, user_variables={…})",
        "ChatPromptTemplate Prompt PromptTemplate",
    ),
    **_advise("a function that calls others is a chain", "Chain LLMChain Pipeline RunnableLambda"),
    **_advise(
        "mellea.Message(role, content) is a message", "AIMessage ChatMessage HumanMessage SystemMessage UserMessage"
    ),
    **_advise("m = mellea.start_session(…), then m.stream(…) streams", "AsyncStream Stream StreamEvent"),
    **_advise(
        "tools take what else they need from the program: as methods of an object, or functions inside a function",
        "RunContext RunContextWrapper",
    ),
    **_advise("mellea.evaluate(function, cases, checks=[…]) evaluates", "Dataset Evaluator Experiment eval evals"),
    **_advise(
        "@mellea.generative makes a function of a signature and a docstring",
        "ChainOfThought InputField Module OutputField Predict Signature",
    ),
    "Field": "from pydantic import Field",
    **_advise("map(…, journal='run.db') takes the path; from mellea.batch import Journal reads one", "Journal"),
    "BaseModel": "from pydantic import BaseModel, and m.instruct(…, format=YourModel)",
}


# The same for other modules of ours.
_OF_MODULES: Mapping[str, Mapping[str, str]] = {
    "mellea.testing": _advise(
        "ScriptedBackend('an answer') plays answers: start_session(ScriptedBackend(…))",
        "FakeBackend FakeListLLM FakeLLM FakeModel FunctionModel MockBackend MockLLM MockModel StubBackend TestBackend "
        "TestModel",
    ),
    "mellea.traces": _advise(
        "with mellea.traces.start('name') as t: … collects what happens, and @mellea.trace makes a span of a function",
        "Tracer get_tracer span start_span start_trace trace tracer",
    ),
}


def _hint_for(name: str) -> str:
    """Return what to write in place of a name that `mellea` doesn't have; `""` if there is no advice."""
    if name in _BEGINNINGS:
        return f"; {_BEGINNINGS[name]}"
    if hasattr(import_module("mellea.stdlib.session").MelleaSession, name):
        return f"; it belongs to a session: m = mellea.start_session(…), then m.{name}"
    ways: dict[str, str] = import_module("mellea.core.attributes").SESSION_WAYS
    return f"; m = mellea.start_session(…) starts a session, and {ways[name]}" if name in ways else ""


def _hint_in(module: str, name: str) -> str:
    way = _OF_MODULES.get(module, {}).get(name)
    return f"; {way}" if way else ""


def load(module: str, name: str) -> Any:
    """Return what a name of 0.8 stands for.

    Raises:
        AttributeError: it wasn't there in 0.8 either.
        ImportError: there is nothing like it here. `from … import` would drop the message of an `AttributeError`.
    """
    advice = INSTEAD.get(module, {}).get(name)
    if advice is not None:
        raise ImportError(f"{module} has no {name!r} of Mellea 0.8; {advice}", name=module)
    home = ELSEWHERE.get(module, {}).get(name)
    if home is None:
        hint = _hint_for(name) if module == "mellea" else _hint_in(module, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
    place, _, attribute = home.partition(":")
    found = import_module(place)
    return getattr(found, attribute) if attribute else found


class _Module(ModuleType):
    """A module of 0.8 that doesn't exist here, made from the table.

    Python sets an imported module as an attribute of its package, where `mify` is also the function: so the module can
    be called.
    """

    def __getattr__(self, name: str) -> Any:
        value = load(self.__name__, name)
        package, _, own = self.__name__.rpartition(".")
        if name == own:  # gives the package its function back, once the program has taken it from here
            setattr(sys.modules[package], own, value)
        return value

    @property
    def __call__(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])


def _find_message(module: str) -> str:
    """Return what to write in place of a module, or of a name that `from mellea import …` asks for; `""` if nothing."""
    if module in MISSING:
        return f"Mellea 0.8's {module} isn't here; {MISSING[module]}"
    if module in OTHERS:
        return f"there is no module {module}; {OTHERS[module]}"
    package, _, name = module.rpartition(".")
    hint = _hint_for(name) if package == "mellea" and module not in ELSEWHERE and not name.startswith("_") else ""
    return f"cannot import name {name!r} from 'mellea'{hint}" if hint else ""


class Loader(abc.Loader):
    """Creates the modules of the table."""

    @classmethod
    def find_spec(cls, name: str) -> ModuleSpec | None:
        """Return the specification of a module of the table, or `None`.

        Raises:
            ModuleNotFoundError: it was there in 0.8, or other libraries have it, and here it is something else.
        """
        message = _find_message(name)
        if message:
            # Under the name of the package: of a module that isn't there `from … import` would say nothing.
            raise ModuleNotFoundError(message, name=name.rpartition(".")[0])
        # As a package, since some of them have modules inside.
        return ModuleSpec(name, cls(), is_package=True) if name in ELSEWHERE else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the module."""
        return _Module(spec.name, f"Names that Mellea 0.8 has here: {', '.join(sorted(ELSEWHERE[spec.name]))}.")

    def exec_module(self, module: ModuleType) -> None:
        """Name what `import *` takes."""
        module.__dict__["__all__"] = sorted(ELSEWHERE[module.__name__])
