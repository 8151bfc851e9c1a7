"""Draw the picture of a run's page: `uv run --group web python -m docs.pictures.trace_page`; needs Chromium."""

from pathlib import Path

import anyio

from mellea.telemetry.page import render_page
from tests.telemetry.page_runs import Pace, plan_weekend
from tests.web.chromium import open_chromium

HERE = Path(__file__).parent


def main() -> None:
    """Run the program that the picture shows, and take it."""
    spans = anyio.run(plan_weekend, Pace(1))
    with open_chromium() as browser:
        page = browser.new_page(viewport={"width": 1180, "height": 620})
        path = HERE / "trace_page.html"
        path.write_text(render_page(spans), "utf-8")
        try:
            page.goto(f"{path.as_uri()}#span={spans[1]['id']}")
            page.screenshot(path=HERE / "trace_page.png")
        finally:
            path.unlink()


if __name__ == "__main__":
    main()
