"""The version of this package: apart from the front door, which leads to all that needs to know it."""

__version__ = "0.2.0"
