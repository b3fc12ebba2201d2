"""The command `optimum-cli export openvino-laaciq`: like optimum's own `export openvino`, with a verdict by language.

Exit codes are those of `inc-laaciq`.  Nothing heavy is imported before the command runs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, NoReturn

HELP = (
    "Export a language model to OpenVINO with weights quantized for every language, evaluated and judged by language."
)

_EPILOG = """examples:
  optimum-cli export openvino-laaciq -m MODEL OUTPUT --config yaml/w4g64_sym.yaml
  optimum-cli export openvino-laaciq -m MODEL OUTPUT --calibration texts/ --evaluation others/ --gate 5%
  optimum-cli export openvino-laaciq -m MODEL OUTPUT --weight-format int8

MODEL must be in float. Texts are folders of <language>.txt, or JSONL with `text` and `language`.
OUTPUT is written complete or not at all: the model (openvino_model.xml), its tokenizer, codes and scales as solved,
laaciq.json (everything that was measured), results.json and baseline.json (what `inc-laaciq gate` reads), reports.
If the gate fails, OUTPUT is left as it was, and the reports are in OUTPUT.failed.

exit codes: 0 pass, 1 internal error (or too little memory or disk), 2 usage or configuration, 3 gate failed,
4 undecided (only with --strict), 130 interrupted, 143 terminated."""


def add_options(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.description = HELP
    parser.epilog = _EPILOG
    main = parser.add_argument_group("What and where")
    main.add_argument("-m", "--model", help="Folder or hub id of a float model; --config may name it instead.")
    main.add_argument("output", type=Path, help="Folder to write.")
    what = parser.add_argument_group("What is solved")
    what.add_argument(
        "--config", type=Path, metavar="YAML", help="The file of `inc-laaciq quantize`; the options below go before it."
    )
    what.add_argument("--weight-format", choices=["int4", "int8"], help="Of the linear layers' weights. Default: int4.")
    what.add_argument(
        "--group-size", type=int, help="Weights that share a scale, -1 = a channel. Default: 128 for int4, else -1."
    )
    scheme = what.add_mutually_exclusive_group()
    scheme.add_argument("--sym", dest="sym", action="store_true", default=None, help="Symmetric; the default.")
    scheme.add_argument("--asym", dest="sym", action="store_false", default=None, help="With zero points.")
    what.add_argument(
        "--mode",
        choices=["fast", "balanced", "fair"],
        help="How much work the solver does. Default: balanced with --calibration, else fast.",
    )
    what.add_argument("--calibration", type=Path, metavar="TEXTS", help="Text by language that is solved for.")
    what.add_argument("--evaluation", type=Path, metavar="TEXTS", help="Other text by language, to measure on.")
    what.add_argument("--gate", metavar="POLICY", help="A policy file, or a bound such as 5%% for every language.")
    form = parser.add_argument_group("What is written")
    form.add_argument(
        "--task",
        choices=["auto", "text-generation-with-past", "text-generation"],
        default="auto",
        help="auto keeps keys and values between calls, as generation needs.",
    )
    form.add_argument(
        "--floats", choices=["auto", "fp32", "fp16"], default="auto", help="What stays in float; auto: as in the model."
    )
    form.add_argument(
        "--embeddings", choices=["float", "int8"], default="float", help="And output projections tied to them."
    )
    form.add_argument("--overwrite", action="store_true", help="Replace an output that is there; the swap is atomic.")
    form.add_argument("--keep-failed", action="store_true", help="If the gate fails, keep the model in OUTPUT.failed.")
    form.add_argument("--strict", action="store_true", help="If the gate is not certain, fail too, with exit code 4.")
    loading = parser.add_argument_group("How the model is loaded")
    loading.add_argument(
        "--trust-remote-code", action="store_true", help="Run code that comes with it. A hub id then needs --revision."
    )
    loading.add_argument("--revision", metavar="COMMIT", help="Commit of a hub id.")
    loading.add_argument("--allow-pickle", action="store_true", help="Also read .bin weights.")
    parser.add_argument("-v", "--verbose", action="store_true", help="Show log messages.")
    parser.add_argument("--debug", action="store_true", help="Show tracebacks and all log messages.")


def carry_out(args: Namespace) -> NoReturn:
    """Export as the options say; every outcome is an exit code."""
    from inc_laaciq import cli

    cli.carry_out(lambda: _export(args), debug=args.debug)


def _export(args: Namespace) -> int:
    import click

    from inc_laaciq import cli
    from inc_laaciq.openvino import export

    cli.listen(verbose=args.verbose, debug=args.debug)
    if not (args.verbose or args.debug):
        _silence_transformers()
    given: dict[str, Any] = {key: value for key, value in vars(args).items() if key in _ARGUMENTS}
    if args.task == "auto":
        del given["task"]
    if args.floats == "auto":
        del given["floats"]
    with cli.stages(verbose=args.verbose or args.debug) as progress:
        result = export(args.model, progress=progress, **given)
    cli.print_report(result.report)
    click.echo(f"Written to {result.folder}")
    return result.exit_code


def _silence_transformers() -> None:
    """optimum-cli imported it, too early for the environment that `listen` sets."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


_ARGUMENTS = (
    "output",
    "config",
    "task",
    "weight_format",
    "group_size",
    "sym",
    "mode",
    "calibration",
    "evaluation",
    "gate",
    "floats",
    "embeddings",
    "trust_remote_code",
    "revision",
    "allow_pickle",
    "overwrite",
    "keep_failed",
    "strict",
)
