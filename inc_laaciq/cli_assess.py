"""The command `inc-laaciq assess`: which languages a quantization would harm, before it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from inc_laaciq.cli_options import loading
from inc_laaciq.errors import SpecError

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=str)
@click.option("--texts", type=_FILE, required=True, help="Folder of <language>.txt or a JSONL file.")
@click.option("--bits", type=click.IntRange(2, 8), default=4, show_default=True, help="Of the weights.")
@click.option(
    "--group-size", type=int, help="Weights that share a scale; -1 = a channel.  [default: 128, or what divides]"
)
@click.option("--scheme", type=click.Choice(["sym", "asym"]), default="sym", show_default=True)
@click.option(
    "--limit", default="5%", show_default=True, metavar="BOUND", help="What a language may lose: 5%, or 0.02npb."
)
@click.option(
    "--tokens-per-language", type=click.IntRange(min=0), default=4096, show_default=True, help="0 = all text."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which documents are taken.")
@click.option(
    "--outlier-kurtosis", type=float, default=100.0, show_default=True, help="Excess kurtosis of an outlier layer."
)
@click.option(
    "--outlier-peak", type=float, default=50.0, show_default=True, help="Its largest weight, in standard deviations."
)
@click.option("-o", "--output", type=_FILE, help="Everything, as JSON.")
@click.option("--html", "to_html", type=_FILE, help="A page with a map of layers and languages.")
@click.option("--config", "to_config", type=_FILE, help="What is recommended, as a configuration for `quantize`.")
@loading
@click.pass_obj
def assess(
    flags: dict[str, bool],
    /,
    model: str,
    texts: Path,
    output: Path | None,
    to_html: Path | None,
    to_config: Path | None,
    **options: Any,
) -> None:
    """Predict what plain rounding would cost every language of MODEL, without quantizing.

    One pass forward and back over a little text of each language. Nothing is written unless asked for.

    \b
    inc-laaciq assess MODEL --texts text/calibration
    inc-laaciq assess MODEL --texts text/calibration --bits 3 --html risk.html -o risk.json
    inc-laaciq assess MODEL --texts text/calibration --bits 3 --config conf.yaml
    inc-laaciq quantize conf.yaml --model MODEL --output OUT

    The degradation is the predicted rise of the loss in thousandths of a nat per UTF-8 byte. It ranks languages by how
    far they will diverge from the float model. The loss itself also moves at random: that of a single language was
    measured at a quarter to twice of what is predicted. What a model really loses, `quantize` and `gate` tell.
    """  # noqa: D301 - click's mark of text to leave as it is
    from inc_laaciq import cli
    from inc_laaciq.output import check_file, write_json_atomic, write_text_atomic
    from inc_laaciq.output.checks import refuse_inputs

    written = [path for path in (output, to_html, to_config) if path is not None]
    if len({path.resolve() for path in written}) < len(written):
        raise SpecError("two outputs have the same file. Give each its own")
    for path in written:
        refuse_inputs(path, [model, texts])
        check_file(path)
    with cli.stages(verbose=flags["verbose"]) as progress:
        from inc_laaciq.assess import assess_quantization_risk

        document = assess_quantization_risk(model, texts, progress=progress, **options)
    from inc_laaciq.report.assessment import assessment_to_html, print_assessment

    print_assessment(document, cli.console())
    if output is not None:
        write_json_atomic(output, document)
    if to_html is not None:
        write_text_atomic(to_html, assessment_to_html(document))
    if to_config is not None:
        import yaml

        recommended = document["recommendation"]["config"]
        recommended["la_aciq"]["calibration"]["texts"] = str(texts.resolve())  # paths in a file are relative to it
        text = yaml.safe_dump(recommended, sort_keys=False, allow_unicode=True)
        write_text_atomic(to_config, text)
    for path in written:
        click.echo(f"Written to {path}")
