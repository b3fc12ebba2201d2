"""The command `inc-laaciq sweep`: what each width of the weights costs every language."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from inc_laaciq.cli_options import loading
from inc_laaciq.errors import BackendError, SpecError

_FILE = click.Path(path_type=Path)


def _widths(_context: click.Context, _parameter: click.Parameter, given: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in given.split(","))
    except ValueError:
        raise click.BadParameter(f"{given!r} is not a list of whole numbers such as 3,4,8") from None


@click.command()
@click.argument("model", type=str)
@click.option("--texts", type=_FILE, required=True, help="Text to measure on: folder of <language>.txt, or JSONL.")
@click.option("--calibration", type=_FILE, help="Other text, to calibrate on; modes balanced and fair need it.")
@click.option("--bits", callback=_widths, default="2,3,4,5,6,8", show_default=True, help="Widths, 2 to 8.")
@click.option(
    "--methods", help="Of rtn, fast, balanced, fair.  [default: rtn,balanced with --calibration, else rtn,fast]"
)
@click.option(
    "--group-size", type=int, help="Weights that share a scale; -1 = a channel.  [default: 128, or what divides]"
)
@click.option("--scheme", type=click.Choice(["sym", "asym"]), default="sym", show_default=True)
@click.option(
    "--margin", default="5%", show_default=True, metavar="BOUND", help="What a language may lose: 5%, or 0.02npb."
)
@click.option(
    "--tokens-per-language", type=click.IntRange(min=0), default=4096, show_default=True, help="Measured on; 0 = all."
)
@click.option(
    "--calibration-tokens", type=click.IntRange(min=0), default=4096, show_default=True, help="Of each language."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which text is taken.")
@click.option("-o", "--output", type=_FILE, required=True, help="Everything, as JSON.")
@click.option("--markdown", "to_markdown", type=_FILE, help="The tables.")
@click.option("--svg", "to_svg", type=_FILE, help="A picture; needs inc-laaciq[plots].")
@click.option("--cells", type=_FILE, help="Folder of finished parts.  [default: OUTPUT with .cells]")
@click.option("--restart", is_flag=True, help="Do finished parts again.")
@click.option("--dry-run", is_flag=True, help="Say what is still to be done, and exit.")
@loading
@click.pass_obj
def sweep(
    flags: dict[str, bool],
    /,
    model: str,
    texts: Path,
    methods: str | None,
    output: Path,
    to_markdown: Path | None,
    to_svg: Path | None,
    cells: Path | None,
    restart: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Quantize MODEL at several widths, and tell the fewest bits that keep each language within a margin.

    Every method at every width is a part of its own. The same command goes on where one was stopped, with the same
    result to the byte; parts are done again only if something that they depend on has changed.

    \b
    inc-laaciq sweep MODEL --texts text/evaluation -o sweep.json
    inc-laaciq sweep MODEL --texts text/evaluation --calibration text/calibration --bits 3,4,8 -o sweep.json
    """  # noqa: D301 - click's mark of text to leave as it is
    from inc_laaciq import cli
    from inc_laaciq.output import check_file, write_json_atomic, write_text_atomic
    from inc_laaciq.output.checks import refuse_inputs
    from inc_laaciq.output.files import write_bytes_atomic

    written = [path for path in (output, to_markdown, to_svg) if path is not None]
    if len({path.resolve() for path in written}) < len(written):
        raise SpecError("two outputs have the same file. Give each its own")
    folder = cells if cells is not None else output.with_suffix(".cells")
    inputs = [path for path in (model, texts, options["calibration"]) if path is not None]
    for path in [*written, folder]:
        refuse_inputs(path, inputs)
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"{folder} is no folder, and finished parts need one. Give --cells another")
    for path in [*written, folder / "sweep" if folder.is_dir() else folder]:
        check_file(path)
    if folder.resolve() in {path.resolve() for path in written}:
        raise SpecError(f"{folder} is both a result and the folder of finished parts. Give --cells another")
    if to_svg is not None and importlib.util.find_spec("matplotlib") is None:
        raise BackendError("a picture needs matplotlib: pip install 'inc-laaciq[plots]'")
    with cli.stages(verbose=flags["verbose"]) as progress:
        from inc_laaciq.sweep import prepare_sweep

        chosen = None if methods is None else tuple(methods.split(","))
        job, about = prepare_sweep(model, texts, folder, methods=chosen, progress=progress, **options)
        missing = job.forget() if restart and not dry_run else job.missing
        if dry_run:
            click.echo(f"{len(missing)} parts to do: {', '.join(cell.label for cell in missing) or 'none'}")
            return
        document = {**job.run(), **about}
    from inc_laaciq.report.sweep import print_sweep, sweep_to_markdown, sweep_to_svg

    write_json_atomic(output, document)
    print_sweep(document, cli.console())
    if to_markdown is not None:
        write_text_atomic(to_markdown, sweep_to_markdown(document))
    if to_svg is not None:
        write_bytes_atomic(to_svg, sweep_to_svg(document))
    for path in written:
        click.echo(f"Written to {path}")
