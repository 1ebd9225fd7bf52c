"""`loratwin schema`: the JSON Schema of workload files."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of workload files, with which editors complete and check them.

    For example: loratwin schema > workload.schema.json, and as the first line of a workload file:
    # yaml-language-server: $schema=workload.schema.json
    """
    from loratwin.workload import spec_json_schema

    typer.echo(json.dumps(spec_json_schema(), indent=2))
