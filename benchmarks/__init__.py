"""Benchmarks: what the library costs against the least that could do the same work.

`python -m benchmarks` prints the table; README.md explains each figure. Nothing in the package imports
this room. Read `floor.py` first, then `wire.py`.
"""
