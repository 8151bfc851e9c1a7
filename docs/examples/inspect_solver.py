"""Evaluate a generative function with Inspect: as a solver, with its tasks, scorers, logs and viewer.

Run it: uv run --group inspect docs/examples/inspect_solver.py
Needs: inspect-ai, which takes 230 MB, and the embedded model

Inspect's own model is never asked. A bigger model than the embedded one is right more often; the log looks the same.
"""

import tempfile
from typing import Literal

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import exact
from inspect_ai.solver import Generate, Solver, TaskState, solver

import mellea


@mellea.generative(model_options={"max_tokens": 12, "temperature": 0})
async def judge_mood(review: str) -> Literal["good", "bad"]:
    """Classify the sentiment of the review as good or bad."""
    ...


@solver
def ask_mellea() -> Solver:
    """Answer a sample by the function."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.output = ModelOutput.from_content("mellea", await judge_mood(state.input_text))
        return state

    return solve


REVIEWS = {
    "I love it, I use it every day.": "good",
    "It broke after two days.": "bad",
    "Great value, my whole family is happy with it.": "good",
    "A waste of money, I want a refund.": "bad",
    "Very comfortable shoes, I would buy them again.": "good",
    "The screen cracked in the first week.": "bad",
}


def main() -> None:
    task = Task(
        dataset=[Sample(input=review, target=mood) for review, mood in REVIEWS.items()],
        solver=ask_mellea(),
        scorer=exact(),
    )
    with tempfile.TemporaryDirectory() as folder:  # a real program keeps its logs, for `inspect view`
        [log] = eval(task, model="none", display="none", log_dir=folder)
        print(f"{log.status}: {len(log.samples)} samples")
        for sample in log.samples:
            print(f"  {sample.output.completion:4} expected {sample.target:4}  {sample.input}")
        for name, metric in log.results.scores[0].metrics.items():
            print(f"{name}: {metric.value:.2f}")


if __name__ == "__main__":
    main()
