"""The version of the package, for code inside it that reports the version."""

__version__ = "0.9.0"
