"""The names of OpenTelemetry's conventions for generative models, in one table.

Source: open-telemetry/semantic-conventions-genai, all of it in development, and the metrics of opentelemetry-util-genai
1.3b0, as read in autumn 2026. `gen_ai.usage.cost` and `gen_ai.client.operation.cost` aren't in the conventions yet;
viewers read the former. What they have no word for at all begins with `mellea.`. Where a name changes there, it changes
here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ATTRIBUTES",
    "CONTENT_SWITCH",
    "DURATIONS",
    "EVALUATION_EVENT",
    "EVALUATION_EXPLANATION",
    "EVALUATION_LABEL",
    "EVALUATION_NAME",
    "EVALUATION_SCORE",
    "FINISH_REASONS",
    "INPUT_MESSAGES",
    "IN_PROCESS",
    "JSON_ATTRIBUTES",
    "METRICS",
    "METRIC_ATTRIBUTES",
    "OPERATIONS",
    "OPERATION_DETAILS_EVENT",
    "OPERATION_NAME",
    "OPTIONS",
    "OUTPUT_MESSAGES",
    "PROMPT_NAME",
    "PROVIDERS",
    "PROVIDER_NAME",
    "RETRY_EVENT",
    "SUBJECTS",
    "SYSTEM_INSTRUCTIONS",
    "TOKEN_TYPE",
    "TOOL_TYPE",
    "Metric",
]

CONTENT_SWITCH: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

OPERATION_NAME: Final = "gen_ai.operation.name"
TOKEN_TYPE: Final = "gen_ai.token.type"
PROVIDER_NAME: Final = "gen_ai.provider.name"
PROMPT_NAME: Final = "gen_ai.prompt.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
OPERATION_DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
RETRY_EVENT: Final = "retry"

OPERATIONS: Mapping[str, str] = {
    "agent": "invoke_agent",
    "call": "chat",
    "embedding": "embeddings",
    "image": "generate_content",
    "tool": "execute_tool",
    "video": "generate_content",
    "workflow": "invoke_workflow",
}
"""The operation of each kind of span; a workflow is a call of several requests. Other kinds have none."""

SUBJECTS: Mapping[str, tuple[str, str]] = {
    "chat": ("model", "gen_ai.request.model"),
    "embeddings": ("model", "gen_ai.request.model"),
    "execute_tool": ("tool", "gen_ai.tool.name"),
    "generate_content": ("model", "gen_ai.request.model"),
    "invoke_agent": ("name", "gen_ai.agent.name"),
    "invoke_workflow": ("given_name", "gen_ai.workflow.name"),
}
"""The part of a span's name after its operation: the field of the plain data, and its attribute."""

ATTRIBUTES: Mapping[str, str] = {
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "cost": "gen_ai.usage.cost",
    "error_type": "error.type",
    "input_tokens": "gen_ai.usage.input_tokens",
    "is_accepted": "mellea.attempt.accepted",
    "is_streaming": "mellea.check.streaming",
    "model": "gen_ai.request.model",
    "output_tokens": "gen_ai.usage.output_tokens",
    "output_type": "gen_ai.output.type",
    "port": "server.port",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "response_id": "gen_ai.response.id",
    "response_model": "gen_ai.response.model",
    "server": "server.address",
    "session": "session.id",
    "time_to_first_chunk": "gen_ai.response.time_to_first_chunk",
    "tool_call_id": "gen_ai.tool.call.id",
    "video_seconds": "mellea.usage.video_seconds",
}
"""Fields of a span's plain data (`core/span_data.py`) that become attributes unchanged."""

JSON_ATTRIBUTES: Mapping[str, str] = {
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "tools": "gen_ai.tool.definitions",
}
"""Fields with content that become attributes as JSON."""

OPTIONS: Mapping[str, str] = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
    "temperature": "gen_ai.request.temperature",
    "top_k": "gen_ai.request.top_k",
    "top_p": "gen_ai.request.top_p",
}
"""Model options, by their names in `ModelOption`."""

PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "compatible": "openai",  # any server with that wire format, at an address that no table has
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
}
"""Providers that have a different name in the conventions."""

IN_PROCESS = frozenset({"llama_cpp"})
"""Providers whose models run in this process, so that a span is internal and has no server."""

# Each combination of values is a time series of its own, so nothing from a prompt or an answer may be among them.
METRIC_ATTRIBUTES = (
    "error.type",
    "gen_ai.agent.name",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.tool.name",
    "server.address",
)
"""Attributes of spans that metrics have as well: few values, and none that a prompt could choose."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A histogram: its name, unit, what it measures, and the boundaries of its buckets."""

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...]


def _double(first: float, count: int, factor: int = 2) -> tuple[float, ...]:
    return tuple(round(first * factor**step, 6) for step in range(count))


# 0.01 s to 82 s: the range that the conventions recommend for requests.
_SECONDS = _double(0.01, 14)
_LONG = _double(0.1, 13)
_HOURS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)

METRICS: Mapping[str, Metric] = {
    "duration": Metric("gen_ai.client.operation.duration", "s", "Duration of a request to a model.", _SECONDS),
    "first": Metric(
        "gen_ai.client.operation.time_to_first_chunk", "s", "Time from the request to its first chunk.", _SECONDS
    ),
    "chunk": Metric(
        "gen_ai.client.operation.time_per_output_chunk", "s", "Mean time per chunk after the first.", _SECONDS
    ),
    # Powers of four up to 67 million tokens, as in the conventions.
    "tokens": Metric("gen_ai.client.token.usage", "{token}", "Tokens of a request.", _double(1, 14, 4)),
    "cost": Metric("gen_ai.client.operation.cost", "{USD}", "Cost of a request, by list prices.", _double(1e-6, 14, 4)),
    "tool": Metric("gen_ai.execute_tool.duration", "s", "Duration of a tool.", _SECONDS),
    "agent": Metric("gen_ai.invoke_agent.duration", "s", "Duration of a run of an agent.", _LONG),
    "workflow": Metric("gen_ai.invoke_workflow.duration", "s", "Duration of a call with several requests.", _HOURS),
}

DURATIONS: Mapping[str, str] = {"execute_tool": "tool", "invoke_agent": "agent", "invoke_workflow": "workflow"}
"""The metric that has the duration of an operation; of any other operation it is `"duration"`."""
