"""Fixtures of the tests in a browser."""

from tests.web.opened_page import browser as browser
from tests.web.opened_page import open_page as open_page
