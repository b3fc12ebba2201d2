"""The command `inc-laaciq pack`: an output folder as a packed Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from inc_laaciq.cli_options import loading

if TYPE_CHECKING:
    from inc_laaciq.backends.gptq_checkpoint import PackedCheckpoint

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("output", type=_FOLDER)
@click.option("--model", required=True, metavar="DIR_OR_ID", help="The float model that was quantized.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["gptq", "gptq_v2", "compressed-tensors"]),
    default="gptq",
    show_default=True,
    help="gptq: Neural Compressor, on Gaudi too, and gptqmodel; gptq_v2: gptqmodel's own loader, with zero points.",
)
@click.option("-o", "folder", type=_FOLDER, metavar="FOLDER", help="Where to write. Needed unless --dry-run.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that is there; the swap is atomic.")
@click.option("--keep-failed", is_flag=True, help="If its gate failed, pack it all the same, as FOLDER.failed.")
@click.option(
    "--positive-scales", is_flag=True, help="GPTQ: no negative scales, but zero points outside the middle; as exact."
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be written.")
@loading
@click.pass_context
def pack(
    context: click.Context,
    /,
    output: Path,
    model: str,
    layout: Literal["gptq", "gptq_v2", "compressed-tensors"],
    folder: Path | None,
    overwrite: bool,
    keep_failed: bool,
    positive_scales: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Write OUTPUT, a folder of `quantize` or of the OpenVINO export, as a packed Hugging Face checkpoint.

    \b
    inc-laaciq pack OUT --model path/to/model -o OUT-gptq
    inc-laaciq pack OUT --model path/to/model --format compressed-tensors -o OUT-ct

    It holds exactly the weights that were solved, the verdict and the figures of OUTPUT, and the tokenizer. Exit code 3
    if the gate of OUTPUT failed.
    """  # noqa: D301 - click's mark of text to leave as it is
    if folder is None and not dry_run:
        raise click.UsageError("Missing option '-o': the folder to write, or --dry-run to write nothing")
    from inc_laaciq.evaluation.gate import EXIT_FAILED
    from inc_laaciq.output import atomic_folder, check_output
    from inc_laaciq.packing import load_float, notes, pack_output, read_output, write_record

    # Before the slow part, and told apart from faults of the input.
    inputs: list[str | Path] = [output, *([model] if Path(model).exists() else [])]
    if folder is not None:
        check_output(folder, overwrite=overwrite, inputs=inputs)
    found = read_output(output)
    if found.refusal and not keep_failed:
        click.echo(f"Error: {output}: {found.refusal}. --keep-failed packs it as FOLDER.failed", err=True)
        context.exit(EXIT_FAILED)
    source = load_float(found, model, **given)
    if folder is None or dry_run:
        _say(pack_output(found, source, None, layout=layout, positive_scales=positive_scales), notes(found))
        click.echo("Nothing was written")
    else:
        with atomic_folder(folder, overwrite=overwrite, inputs=inputs) as target:
            packed = pack_output(found, source, target.folder, layout=layout, positive_scales=positive_scales)
            written = f"{target.path.name}.failed" if found.refusal else target.path.name
            write_record(found, source, packed, target.folder, target.path.with_name(written))
            if found.refusal:
                target.reject(keep_model=True)
        _say(packed, notes(found))
        click.echo(f"Written to {target.result}")
    if found.refusal:
        click.echo(f"Error: {output}: {found.refusal}", err=True)
        context.exit(EXIT_FAILED)


def _say(packed: PackedCheckpoint, more: Sequence[str]) -> None:
    """Print what a reader of the folder should know."""
    click.echo(f"{packed.n_bytes / 1e6:.1f} MB of tensors, the model in {packed.dtype}")
    for reader, faults in packed.readers.items():
        click.echo(f"{reader}: {'; '.join(faults) if faults else 'nothing stands in the way'}")
    for note in (*packed.notes, *more):
        click.echo(f"note: {note}")
