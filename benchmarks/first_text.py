"""A program that prints the first text of an answer and ends: `python -m benchmarks.first_text floor|ours URL`.

Both render one Jinja2 template, in a sandbox. What a program needs is imported when it is needed, since that
is most of what is measured.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.abc import MetaPathFinder


async def by_floor(url: str) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from benchmarks import floor

    template = ImmutableSandboxedEnvironment().from_string("Write a story about {{topic}}.")
    floor.MESSAGES[0]["content"] = template.render(topic="a lighthouse")

    async with floor.client() as client:
        await floor.stream(client, url, lambda: print("first", flush=True))


async def by_ours(url: str) -> None:
    import mellea
    from mellea.backends.openai import OpenAIBackend

    async with mellea.MelleaSession(OpenAIBackend("bench", base_url=f"{url}/v1", api_key="")) as session:
        thunk = await session.ainstruct(
            "Write a story about {{topic}}.", user_variables={"topic": "a lighthouse"}, await_result=False
        )
        await anext(aiter(thunk))
        print("first", flush=True)
        await thunk


class _Hidden(MetaPathFinder):
    """Hides what only a developer's environment has, and httpx imports wherever it finds it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in ("click", "trio"):
            raise ModuleNotFoundError(f"{fullname} is hidden", name=fullname)


if __name__ == "__main__":
    sys.meta_path.insert(0, _Hidden())
    asyncio.run({"floor": by_floor, "ours": by_ours}[sys.argv[1]](sys.argv[2]))
