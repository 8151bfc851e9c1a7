"""Every async test runs on asyncio and on trio, and no example of a property is too slow for a busy machine."""

import pytest
from hypothesis import settings

settings.register_profile("mellea", deadline=None)
settings.load_profile("mellea")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param
