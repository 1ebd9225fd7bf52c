"""`loratwin profiles`: what was fitted, on what, and how far it can be trusted; profiles of what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import JsonFile, check_json
from loratwin.cli.options import show as show_result

app = command_group("Performance profiles: GPU, engine and LLM.")


@app.command("list")
def list_profiles(
    long: Annotated[bool, typer.Option("--long", help="With hash, origin and where it is.")] = False,
    json: JsonFile = None,
) -> None:
    """List the profiles that come with the package and your own."""
    from loratwin.perf import profile_names
    from loratwin.report.profile_tables import profiles_data, profiles_text

    check_json(json)
    show_result(json, lambda: profiles_text() if long else "\n".join(profile_names()), profiles_data)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a profile, or a profile file (.yaml).")], json: JsonFile = None
) -> None:
    """Show a profile: its card, held-out errors, domain and coefficients."""
    from loratwin.perf import load_profile
    from loratwin.report import profile_text

    check_json(json, inputs=(name,))
    profile = load_profile(name)
    show_result(json, lambda: profile_text(profile), lambda: profile.model_dump(mode="json"))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Name of a profile, or a profile file (.yaml).")],
    second: Annotated[str, typer.Argument(help="The one to compare with it.")],
    json: JsonFile = None,
) -> None:
    """Show two profiles side by side: KV capacity, decode steps, and every coefficient with its difference."""
    from loratwin.perf import load_profile
    from loratwin.report.profile_tables import differences_data, differences_text

    check_json(json, inputs=(first, second))
    both = load_profile(first), load_profile(second)
    show_result(json, lambda: differences_text(*both), lambda: differences_data(*both))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Profile file (.yaml).")],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite your profile of the same name.")] = False,
) -> None:
    """Check a profile file and keep it: from then on it is found by its name."""
    from loratwin.perf import add_profile

    profile, path = add_profile(str(file), replace)
    typer.echo(f"{profile.name} is now {path}")


@app.command()
def assume(
    gpu: Annotated[str, typer.Option("--gpu", help="GPU, as h100-sxm; an unknown one lists the known.")],
    llm: Annotated[str, typer.Option("--llm", help="LLM: a name, as llama-3.1-8b-instruct, or a local config.json.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Profile file to write (.yaml).")],
    engine: Annotated[
        str | None, typer.Option("--engine", help="Version of vLLM, as vllm-0.25.1. Default: vllm-0.32.0.")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", min=1, help="GPUs that share the LLM.")] = 1,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            help="Fitted profile to learn from, by name or file; several times for several. "
            "LoRA, front end and, of the same engine generation, launches are scaled from it.  "
            "[default: those that come with the package]",
            metavar="NAME|FILE",
        ),
    ] = None,
) -> None:
    """Make a profile of a GPU and an LLM that were not measured, from measured operations; it is marked as assumed.

    LLMs with sparse attention (DeepSeek V3.2, GLM-5), Mamba or weights of odd types are refused: nothing was measured.

    For example: loratwin profiles assume --gpu h100-sxm --llm llama-3.1-8b-instruct --engine vllm-0.32.0 -o my.yaml
    """
    from loratwin.engines.versions import told_version
    from loratwin.llms import find_llm
    from loratwin.perf import assume as assumed
    from loratwin.perf import find_gpu, load_references, save_profile
    from loratwin.perf.store import check_profile_file

    check_profile_file(out)
    (version, said), references = told_version(engine), load_references(reference or ())
    profile = assumed(find_gpu(gpu), find_llm(llm, version), version, tensor_parallel, references)
    save_profile(profile, out)
    typer.echo(f"{profile.name}: {out}")
    for note in (*said, *profile.notes):
        typer.echo(f"note: {note}", err=True)
