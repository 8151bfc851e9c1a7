"""Engines that spread rows over processes and machines: Ray Data, Dask and Spark.

Each engine is thin; `Partition` does the work.
"""

# May import: `mellea.batch`, and its own engine, an extra, inside functions. Read `ray.py` first.

__all__: list[str] = []
