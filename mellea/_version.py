"""The version of the package, for those inside it that tell it to others."""

__version__ = "0.9.0"
