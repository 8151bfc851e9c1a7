"""An agent that works in one folder and nowhere else: it lists, reads and writes, and a path that leads out is refused.

Run it: uv run docs/examples/folder_agent.py
Needs: the embedded model

The sandbox is in the tools, not in the prompt: what a model asks for can't leave the folder. The embedded model calls
one tool for a question and needs a worked call of each. A bigger one plans several steps: "Sum up all notes in
summary.txt".
"""

import tempfile
from pathlib import Path

import mellea
from mellea import Agent
from mellea.stdlib.agents import Limits
from mellea.tools import ToolExample

HOLD = tempfile.TemporaryDirectory()
FOLDER = Path(HOLD.name).resolve()


def find_inside(name: str) -> Path:
    """Return a path in the folder. The message of an error goes to the model."""
    path = (FOLDER / name).resolve()  # symbolic links and .. are followed first
    if not path.is_relative_to(FOLDER):
        raise ValueError(f"{name!r} is outside of the folder")
    return path


@mellea.tool(examples=[ToolExample("What does plan.txt say?", {"name": "plan.txt"}, "Buy milk.", "It says: Buy milk.")])
def read_file(name: str) -> str:
    """Read a file.

    Args:
        name: of the file
    """
    return find_inside(name).read_text("utf-8")


@mellea.tool(examples=[ToolExample("Which files are there?", {}, "plan.txt", "plan.txt")])
def list_files() -> str:
    """List the files in the folder."""
    return ", ".join(sorted(path.name for path in FOLDER.iterdir()))


def main() -> None:
    (FOLDER / "notes.txt").write_text("The boat leaves at ten.", "utf-8")
    (FOLDER / "tea.txt").write_text("Green tea costs four euros.", "utf-8")
    m = mellea.start_session(model_options={"temperature": 0, "max_tokens": 60})
    agent = Agent(m, [read_file, list_files], limits=Limits(steps=3))
    for task in ("What does notes.txt say?", "Which files are there?"):
        run = agent.run(task)
        print(task)
        for step in run.steps:
            for result in step.results:
                print(f"  {result.tool_name} gives {result.result!r}")
        print(f"  {run.value}")
    # What the model could ask for as well; it would be told why that is refused.
    try:
        read_file("../secret.txt")
    except ValueError as error:
        print("refused:", error)
    HOLD.cleanup()


if __name__ == "__main__":
    main()
