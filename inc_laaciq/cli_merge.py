"""The command `inc-laaciq merge-measurements`: FP8 measurements of several languages as one."""

from __future__ import annotations

from pathlib import Path

import click

_DEVICES = ("gaudi2", "gaudi3", "cpu")
_METHODS = ("maxabs_pow2", "maxabs_hw", "maxabs_arbitrary")


@click.command("merge-measurements")
@click.argument("measurements", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Beginning of the files' names: the dump_stats_path that Neural Compressor is given next.",
)
@click.option(
    "--reconcile",
    type=click.Choice(["max", "mean", "minimax", "error"]),
    default="max",
    show_default=True,
    help="max: none saturates; mean, minimax: of the ranges' logarithms; error: least rounding error of the worst "
    "language, from counts that the observer laaciq keeps.",
)
@click.option("--device", type=click.Choice(_DEVICES), default="gaudi2", show_default=True, help="Where FP8 will run.")
@click.option(
    "--scale-method",
    type=click.Choice(_METHODS),
    default="maxabs_pow2",
    show_default=True,
    help="How Neural Compressor will round scales; the report and `error` take it into account.",
)
@click.option("--missing-nodes", is_flag=True, help="Let modules lack some languages: experts that no token reached.")
@click.option("--overwrite", is_flag=True, help="Replace a measurement that is there.")
@click.option(
    "--remove-stale-scales", is_flag=True, help="Remove scales that Neural Compressor kept of an earlier one."
)
def merge_measurements(
    measurements: tuple[str, ...],
    output: Path,
    reconcile: str,
    device: str,
    scale_method: str,
    missing_nodes: bool,
    overwrite: bool,
    remove_stale_scales: bool,
) -> None:
    """Merge FP8 MEASUREMENTS of Neural Compressor, one of each language, into one that it quantizes by.

    \b
    inc-laaciq merge-measurements en=dumps/en/measure sw=dumps/sw/measure -o merged/measure
    inc-laaciq merge-measurements dumps -o merged/measure      a folder of each language in dumps

    They are those of ``FP8Config(mode="MEASURE")``, taken on a Gaudi or a CPU, by one worker or several. The result is
    read by stock Neural Compressor: ``FP8Config(mode="QUANTIZE", dump_stats_path="merged/measure")``. The report lies
    beside it, in ``..._languages.json``.
    """  # noqa: D301 - click's mark of text to leave as it is
    from inc_laaciq.cli import console
    from inc_laaciq.fp8_inputs import named_dumps, read_dumps
    from inc_laaciq.fp8_merge import MergeSettings, check_destination, destination, merge, write_merged
    from inc_laaciq.fp8_merge_report import merge_report
    from inc_laaciq.quant.fp8_scales import Fp8Target
    from inc_laaciq.report.fp8_ranges import print_merge

    target = Fp8Target(device=device, method=scale_method)
    settings = MergeSettings(rule=reconcile, target=target, missing_nodes=missing_nodes)
    names = named_dumps(measurements)
    place = destination(output, names.values())
    check_destination(place, overwrite=overwrite, remove_stale_scales=remove_stale_scales)
    dumps = read_dumps(names)
    merged = merge(dumps, settings)
    report = merge_report(dumps, merged, settings)
    written = write_merged(merged, place, report)
    print_merge(report, console())
    click.echo(f"Written to {place.file(place.ranks[0], '.npz')} and beside it; the report is {written}")
    # Neural Compressor cannot take a name without a folder.
    click.echo(f"For Neural Compressor: dump_stats_path={str(place.prefix.absolute())!r}")
