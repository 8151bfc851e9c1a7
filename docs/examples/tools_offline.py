"""Give two tools to a model without tool support, inside your process and without a network.

Run it: uv run docs/examples/tools_offline.py
Needs: the embedded model

The embedded model needs an example of a call for each tool, and calls one tool for each question. A bigger model needs
no examples, and calls several tools.
"""

import operator

import mellea
from mellea.events import ToolEnd, ToolResult
from mellea.tools import ToolExample

PEOPLE = {"Bergen": 289_330, "Lund": 91_940, "Porto": 231_800, "Turin": 846_930}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@mellea.tool(examples=[ToolExample("What is 2 + 3?", {"expression": "2 + 3"}, "5")])
def calculate(expression: str) -> str:
    """Compute the value of an arithmetic expression.

    Args:
        expression: such as 2 + 3
    """
    left, sign, right = expression.split()
    return f"{OPERATORS[sign](float(left), float(right)):g}"


@mellea.tool(
    examples=[
        ToolExample("How many people live in Oslo?", {"city": "Oslo"}, "709037", "Oslo has 709037 inhabitants."),
    ]
)
def look_up(city: str) -> int:
    """Look up the population of a city.

    Args:
        city: name of the city
    """
    return PEOPLE[city]


QUESTIONS = ("How many people live in Lund?", "What is 98 - 45?", "What is the population of Porto?", "What is 23 * 4?")

with mellea.start_session(model_options={"temperature": 0, "max_tokens": 80}) as m:
    for question in QUESTIONS:
        print(question)
        with m.stream(question, tools=[calculate, look_up], tool_calls="run") as stream:
            for event in stream.events():
                match event:
                    case ToolEnd(call):
                        print(f"  the model calls {call.tool_name}({dict(call.tool_args)})")
                    case ToolResult(output):
                        print(f"  which gives {output.result!r}")
        print(f"  {stream.text}")
