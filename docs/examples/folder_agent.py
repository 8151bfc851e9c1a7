"""Keep an agent inside one folder: it lists and reads files there, and paths that lead out of it are refused.

Run it: uv run docs/examples/folder_agent.py
Needs: the embedded model

The limit is in the tools, not in the prompt, so the model can't get around it. The embedded model calls one tool for
each question, and needs an example of a call. A bigger model plans several steps: "Which of these notes mentions a
time?"
"""

import tempfile
from pathlib import Path

import mellea
from mellea import Agent
from mellea.stdlib.agents import Limits
from mellea.tools import Tool, ToolExample

READING = ToolExample("What does plan.txt say?", {"name": "plan.txt"}, "Buy milk.", "It says: Buy milk.")


def find_inside(folder: Path, name: str) -> Path:
    """Return the path of a file in the folder. The model reads the error's message as the result of its call."""
    path = (folder / name).resolve()  # symbolic links and .. are followed first
    if not path.is_relative_to(folder):
        raise ValueError(f"{name!r} is outside of the folder")
    return path


def make_tools(folder: Path) -> tuple[Tool, Tool]:
    @mellea.tool(examples=[READING])
    def read_file(name: str) -> str:
        """Read a file.

        Args:
            name: of the file
        """
        return find_inside(folder, name).read_text("utf-8")

    @mellea.tool(examples=[ToolExample("Which files are there?", {}, "plan.txt", "plan.txt")])
    def list_files() -> str:
        """List the files in the folder."""
        return ", ".join(sorted(path.name for path in folder.iterdir()))

    return read_file, list_files


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "notes.txt").write_text("The boat leaves at ten.", "utf-8")
        (folder / "tea.txt").write_text("Green tea costs four euros.", "utf-8")
        read_file, list_files = make_tools(folder)
        m = mellea.start_session(model_options={"temperature": 0, "max_tokens": 60})
        agent = Agent(m, [read_file, list_files], limits=Limits(steps=3))
        for task in ("What does notes.txt say?", "Which files are there?"):
            run = agent.run(task)
            print(task)
            for step in run.steps:
                for result in step.results:
                    print(f"  {result.tool_name} gives {result.result!r}")
            print(f"  {run.value}")
        try:
            read_file("../secret.txt")  # as if the model had asked for it
        except ValueError as error:
            print("refused:", error)


if __name__ == "__main__":
    main()
