"""What makes a small model call tools: a chat template that shows them, and a history of calls to go by."""

from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.messages import Message, assistant_message, user_message

TEMPLATE = """\
{{- '<|im_start|>system\\n' -}}
{%- if messages[0].role == 'system' -%}{{- messages[0].content + '\\n\\n' -}}{%- endif -%}
{%- if tools -%}
{{- '# Tools\\n\\nYou may call these functions:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\\n</tools>\\n\\nTo call one, write its name and arguments as JSON within tags:\\n' -}}
{{- '<tool_call>\\n{"name": <name>, "arguments": <arguments>}\\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
{{- call.function.arguments if call.function.arguments is string else (call.function.arguments | tojson) -}}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{{- '<|im_start|>tool\\n' + message.content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def calls_before(question: str, name: str, *turns: tuple[str, dict[str, object], str]) -> tuple[Message, ...]:
    """Return turns that the model imitates: what was asked, the call it led to, the result."""
    history: list[Message] = []
    for number, (subject, arguments, result) in enumerate(turns):
        history += [
            user_message(question.format(subject)),
            assistant_message(ToolCall(f"call_{number}", name, arguments)),
            Message("tool", ToolOutput(f"call_{number}", name, result)),
            assistant_message(f"It is {result} in {subject}."),
        ]
    return tuple(history)


WEATHER = (
    *calls_before(
        "What is the weather in {}?",
        "get_weather",
        ("Rome", {"city": "Rome"}, "sunny"),
        ("Oslo", {"city": "Oslo"}, "sunny"),
    ),
    user_message("What is the weather in Paris?"),
)
"""A question whose answer is a call of `get_weather`."""
