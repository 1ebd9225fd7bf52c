"""One module for each command. At its top only typer, light modules, the standard library: `--help` answers at once."""
