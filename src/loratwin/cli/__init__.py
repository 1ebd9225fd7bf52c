"""The command line: thin. Commands parse, call the package and print; they decide nothing."""

from loratwin.cli.app import app, main

__all__ = ["app", "main"]
