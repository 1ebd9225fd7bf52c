"""One module for each command. At its top only typer, the errors and the standard library: `--help` answers at once."""
