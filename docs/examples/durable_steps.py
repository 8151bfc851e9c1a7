"""Make a job of several steps survive a crash, with its text live: DBOS keeps the steps in an SQLite file.

Run it: uv run --group durable docs/examples/durable_steps.py
Needs: dbos; no model, since a script stands in for it

The job is killed in the second chapter; the next run repeats only that chapter. Any process can read the stream.
"""

import asyncio
import os
import subprocess
import sys
import tempfile

from dbos import DBOS, SetWorkflowID

from mellea import Agent, MelleaSession
from mellea.testing import Pause, ScriptedBackend

FILE, DIES_IN = sys.argv[1:] if len(sys.argv) == 3 else ("", "")  # of the process that is killed, and of its successor


def answer(request):
    task = request.messages[-1].text
    # Two threads print, so each line is one write: `print` would write its end apart.
    print(f"  [the model is asked: {task.splitlines()[0]}]\n", end="", flush=True)
    name = "All of them" if "Sum" in task else "Owls" if "Owls" in task else "Bats"
    pieces = [f"{name} ", Pause(0.2), "fly ", Pause(0.2), "at ", Pause(0.2), "night. ", Pause(0.2)]
    return '["Owls", "Bats"]' if "Plan" in task else pieces


m = MelleaSession(ScriptedBackend(answer))
editor = Agent(m, [], name="editor", instructions="Be brief.")


@DBOS.step()
async def plan(subject: str) -> list[str]:
    return (await m.ainstruct(f"Plan a report on {subject}: name its chapters.", format=list[str])).parsed


@DBOS.step()
async def write(part: str, task: str) -> str:
    text = ""
    async for chunk in editor.astream(task, live=True):
        # Pieces of a step that was cut off stay in the stream, so each says where it belongs.
        await DBOS.write_stream_async("text", {"part": part, "at": len(text), "text": chunk.text})
        text += chunk.text
        if part == DIES_IN and len(text) > 6:
            os._exit(9)
    return text


@DBOS.workflow()  # knows its steps by their order, so they are started one after the other
async def report(subject: str) -> str:
    chapters = "".join([await write(name, f"Write the chapter {name}.") for name in await plan(subject)])
    return chapters + await write("summary", f"Sum up the report:\n{chapters}")


async def work() -> None:
    with SetWorkflowID("report-1"):  # the run with this id is resumed, not started a second time
        handle = await DBOS.start_workflow_async(report, "animals")
    async for piece in DBOS.read_stream_async(handle.get_workflow_id(), "text", polling_interval_sec=0.02):
        print(f"  live: {piece['part']} {piece['at']}: {piece['text']!r}\n", end="", flush=True)
    print(f"the report: {await handle.get_result()}")


if __name__ == "__main__" and FILE:
    settings = {"name": "report", "system_database_url": f"sqlite:///{FILE}", "log_level": "CRITICAL"}
    DBOS(config={**settings, "application_version": "1"})  # by default a digest of the source: an edit ends all jobs
    DBOS.launch()
    asyncio.run(work())
    DBOS.destroy()
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for dies_in in ("Bats", "nowhere"):
            done = subprocess.run([sys.executable, __file__, f"{folder}/jobs.db", dies_in], check=False)
            if done.returncode not in (0, 9):
                sys.exit(done.returncode)
            print("killed" if done.returncode else "done", flush=True)
