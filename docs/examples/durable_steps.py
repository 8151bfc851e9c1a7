"""A job of several steps that survives a crash, with its text live: DBOS keeps the steps, in an SQLite file.

Run it: uv run --with mellea --with dbos docs/examples/durable_steps.py

The plan, each chapter and the agent's closing words are steps. The process is killed in the second chapter and started
again: what was a finished step comes out of the file, and the step that was cut off is made anew. While a step runs,
its text goes to a stream of the workflow, which any process can read, from any place on.
"""

import asyncio
import os
import subprocess
import sys
import tempfile

from dbos import DBOS, SetWorkflowID

import mellea
from mellea import Agent
from mellea.testing import Pause, ScriptedBackend

JOB = "report-1"
DIES_IN = sys.argv[2] if len(sys.argv) > 2 else ""


def answer(request):
    """Stand in for a model, so that this runs anywhere; each request is noted."""
    task = request.messages[-1].text
    print(f"  [the model is asked: {task.splitlines()[0]}]", flush=True)
    if "Plan" in task:
        return '["Owls", "Bats"]'
    name = "Owls" if "Owls" in task else "Bats" if "Bats" in task else "All of them"
    return [part for word in f"{name} fly at night.".split() for part in (f"{word} ", Pause(0.05))]


m = mellea.MelleaSession(ScriptedBackend(answer))
agent = Agent(m, [], name="editor", instructions="Be brief.")


@DBOS.step()
async def plan(subject: str) -> list[str]:
    return (await m.ainstruct(f"Plan a report on {subject}: name its chapters.", format=list[str])).parsed


@DBOS.step()
async def write(chapter: str) -> str:
    text = ""
    async for chunk in m.astream(f"Write the chapter {chapter}."):
        # Whoever reads has it now, not at the step's end. Pieces of a step that was cut off stay, so each says where
        # it belongs: one at 0 begins its chapter, or begins it again.
        await DBOS.write_stream_async("text", {"chapter": chapter, "at": len(text), "text": str(chunk)})
        text += chunk
        if chapter == DIES_IN and len(text) > 10:
            os._exit(9)
    return text


@DBOS.step()
async def sum_up(text: str) -> str:
    said = ""
    async for chunk in agent.astream(f"Sum up the report:\n{text}"):
        await DBOS.write_stream_async("text", {"chapter": "summary", "at": len(said), "text": chunk.text})
        said += chunk.text
    return said


@DBOS.workflow()
async def report(subject: str) -> str:
    # Steps are known by their order, so they are begun one after the other.
    chapters = [await write(chapter) for chapter in await plan(subject)]
    return "".join([*chapters, await sum_up("".join(chapters))])


async def read_live() -> None:
    async for piece in DBOS.read_stream_async(JOB, "text", polling_interval_sec=0.02):
        print(f"  live: {piece['chapter']} {piece['at']}: {piece['text']!r}", flush=True)


async def work() -> None:
    # The same workflow again, not a second one: DBOS gives the run that has this id, and goes on with it.
    with SetWorkflowID(JOB):
        handle = await DBOS.start_workflow_async(report, "animals")
    reader = asyncio.create_task(read_live())
    print(f"the report: {await handle.get_result()}")
    await reader


def launch(file: str) -> None:
    # The version is pinned: DBOS goes on only with workflows of the same one, by default a digest of the source.
    url = f"sqlite:///{file}"
    DBOS(config={"name": "report", "system_database_url": url, "application_version": "1", "log_level": "ERROR"})
    DBOS.launch()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for dies_in in ("Bats", "nowhere"):
            done = subprocess.run([sys.executable, __file__, os.path.join(folder, "jobs.db"), dies_in], check=False)
            print("killed" if done.returncode else "done", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        launch(sys.argv[1])
        asyncio.run(work())
        DBOS.destroy()
    else:
        main()
