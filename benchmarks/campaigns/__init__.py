"""Campaigns: what is tried hundreds or thousands of times, and a part of which the tests try."""
