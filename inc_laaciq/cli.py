"""The command `inc-laaciq`: with the other `cli_*` files, the only place that prints or exits.

Exit codes: 0 pass, 1 internal error (or too little memory or disk; or a search in which nothing passed),
2 usage or configuration, 3 gate failed, 4 undecided (only with --strict), 5 baseline and candidate do not match,
130 interrupted, 143 terminated.
Nothing heavy is imported before a command runs, so that --help is quick.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn

import click

from inc_laaciq.cli_assess import assess
from inc_laaciq.cli_gate import gate, report
from inc_laaciq.cli_merge import merge_measurements
from inc_laaciq.cli_options import loading
from inc_laaciq.cli_pack import pack
from inc_laaciq.cli_sweep import sweep
from inc_laaciq.errors import LaaciqError

_EXIT_INTERRUPTED = 130
_EXIT_TERMINATED = 143


class _Terminated(BaseException):
    """SIGTERM, turned into an exception so that half-written files are removed on the way out."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="inc-laaciq")
@click.option("--debug", is_flag=True, help="Show tracebacks and all log messages.")
@click.option("-v", "--verbose", is_flag=True, help="Show log messages of this package and of Neural Compressor.")
@click.pass_context
def cli(context: click.Context, debug: bool, verbose: bool) -> None:
    """Quantize multilingual language models so that every language keeps its quality.

    \b
    inc-laaciq quantize yaml/w4g64_sym.yaml --output OUT   quantize through Intel Neural Compressor
    inc-laaciq plan yaml/w4g64_sym.yaml                    what that would do, take and leave in float
    inc-laaciq evaluate OUT -o results.json                loss of every language
    inc-laaciq assess MODEL --texts TEXTS                  what quantization would cost each, before it is done
    inc-laaciq sweep MODEL --texts TEXTS -o sweep.json     the fewest bits that keep each within a margin
    inc-laaciq pack OUT --model MODEL -o OUT-gptq          as a GPTQ or compressed-tensors checkpoint
    inc-laaciq merge-measurements DUMPS -o merged/measure  FP8 for Gaudi: one range for all languages
    inc-laaciq gate OUT --max-degradation 5%               verdict by language, for CI
    inc-laaciq report OUT --html report.html               what was found, in other formats

    Exit codes: 0 pass, 1 internal error (or too little memory or disk; or a search in which nothing passed),
    2 usage or configuration, 3 gate failed, 4 undecided (only with --strict), 5 baseline and candidate do not match,
    130 interrupted, 143 terminated.
    """  # noqa: D301 - click's mark of text to leave as it is
    context.obj = {"debug": debug, "verbose": verbose or debug}
    listen(verbose=verbose, debug=debug)


_config = click.argument("config", type=click.Path(path_type=Path))
_model = click.option(
    "--model", metavar="DIR_OR_ID", help="Hugging Face folder or hub id; overrides la_aciq.model of the configuration."
)


@cli.command()
@_config
@_model
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for the result.  [default: <config name>-output]"
)
@click.option("--overwrite", is_flag=True, help="Replace an output folder that is there, once the new one is complete.")
@click.option("--keep-failed", is_flag=True, help="If the gate fails, keep the model as OUTPUT.failed.")
@click.option("--strict", is_flag=True, help="If the gate is not certain, fail too, with exit code 4.")
@click.option(
    "--compare",
    type=click.Choice(["rtn"]),
    multiple=True,
    help="Also quantize the same layers with Neural Compressor's own method and show both.",
)
@click.option(
    "--api",
    type=click.Choice(["adaptor", "torch"]),
    help="Neural Compressor's API: adaptor (2.6 to 3.7) or torch (3.7 and later).  [default: adaptor if it is there]",
)
@loading
@click.pass_obj
def quantize(
    flags: dict[str, bool],
    /,
    config: Path,
    model: str | None,
    output: Path | None,
    overwrite: bool,
    keep_failed: bool,
    strict: bool,
    compare: tuple[str, ...],
    api: Literal["adaptor", "torch"] | None,
    **given: Any,
) -> None:
    """Quantize a model as CONFIG says, evaluate every language, and write a folder.

    CONFIG is a yaml file with Intel Neural Compressor's keys and a `la_aciq:` section; see yaml/ for presets and
    yaml/annotated.yaml for every key.

    \b
    The folder holds the model in Neural Compressor's own saved form, the packed weights, codes and scales as solved,
    laaciq.json (everything that was measured), results.json and baseline.json (what a gate reads), and reports.
    """  # noqa: D301 - click's mark of text to leave as it is
    from inc_laaciq.config import read_config
    from inc_laaciq.inputs import input_paths
    from inc_laaciq.output import atomic_folder, check_space

    run = read_config(config)
    target = output or Path(f"{config.stem}-output")
    with atomic_folder(target, overwrite=overwrite, inputs=input_paths(model, config, run)) as folder:
        with stages(verbose=flags["verbose"]) as progress:
            from inc_laaciq.artifacts import REPORTS, write_artifacts
            from inc_laaciq.backends.inc_api import choose
            from inc_laaciq.evaluation.gate import exit_code
            from inc_laaciq.job import prepare
            from inc_laaciq.pipeline import run_quantization

            chosen = choose(api)
            job = prepare(run, model, **given)
            check_space(target, job.plan.disk_bytes)
            outcome = run_quantization(job, comparisons=compare, progress=progress, api=chosen)
            outcome.report["strict"] = strict
            write_artifacts(job, outcome, folder)
        # Fails closed: a gate that could judge nothing has not passed either.
        code = exit_code(outcome.report["verdict"], run.la_aciq.gate, strict=strict)
        if code:
            folder.reject(keep_model=keep_failed, reports=REPORTS)
    print_report(outcome.report)
    if "fp8" in outcome.report:
        from inc_laaciq.report.fp8_ranges import print_merge

        print_merge(outcome.quantized.report, console())
    click.echo(f"Written to {folder.result}")
    sys.exit(code)


@cli.command()
@_config
@_model
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@loading
def plan(config: Path, model: str | None, as_json: bool, **given: Any) -> None:
    """Say what `quantize CONFIG` would do: layers, memory, disk and time. Nothing is written."""
    from inc_laaciq.config import read_config

    run = read_config(config)
    from inc_laaciq.job import prepare
    from inc_laaciq.pipeline import check_memory
    from inc_laaciq.report.tables import plan_dict, print_plan

    job = prepare(run, model, **given)
    content = plan_dict(job.plan, notes=job.notes)
    if as_json:
        import json

        click.echo(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print_plan(content, console())
    check_memory(job.plan)


@cli.command()
@click.argument("model", type=str)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Results file (JSON) to write.")
@click.option(
    "--texts",
    type=click.Path(path_type=Path),
    help="Folder of <language>.txt or a JSONL file.  [default: the texts recorded in a `quantize` output]",
)
@click.option(
    "--tokens-per-language",
    type=click.IntRange(min=0),
    help="Tokens scored of each language; 0 = all.  [default: 4096]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Which sentences are drawn.  [default: 0]")
@click.option(
    "--aligned/--no-aligned",
    default=None,
    help="Line i of every language is the same sentence: take the same lines of all.  [default: as recorded, else no]",
)
@click.option(
    "--reference", metavar="DIR_OR_ID", help="The model before quantization; also tell flips and divergence from it."
)
@click.option(
    "--runtime",
    type=click.Choice(["default", "exact"]),
    help="Of an OpenVINO model: compute as it is deployed, or in float32.  [default: as it is deployed]",
)
@loading
@click.pass_obj
def evaluate(
    flags: dict[str, bool],
    /,
    model: str,
    output: Path,
    texts: Path | None,
    tokens_per_language: int | None,
    seed: int | None,
    aligned: bool | None,
    reference: str | None,
    runtime: Literal["default", "exact"] | None,
    **given: Any,
) -> None:
    """Measure the loss of every language and write it, sentence by sentence, to a results file.

    MODEL is a Hugging Face folder or hub id, the output folder of `inc-laaciq quantize` or of
    `optimum-cli export openvino-laaciq`, or an OpenVINO model that optimum-intel exported.
    """
    from inc_laaciq.output import check_file, write_json_atomic

    check_file(output)
    with stages(verbose=flags["verbose"]) as progress:
        from inc_laaciq.evaluate import evaluate_model

        results = evaluate_model(
            model,
            texts=texts,
            tokens_per_language=tokens_per_language,
            seed=seed,
            aligned=aligned,
            reference=reference,
            runtime=runtime,
            progress=progress,
            **given,
        )
    write_json_atomic(output, results)
    from inc_laaciq.report.tables import print_results

    print_results(results, console())
    click.echo(f"Written to {output}")


cli.add_command(gate)
cli.add_command(report)
cli.add_command(assess)
cli.add_command(sweep)
cli.add_command(pack)
cli.add_command(merge_measurements)


def listen(*, verbose: bool, debug: bool) -> None:
    """Show this package's warnings; what other packages have to say only if asked, for it buries the rest."""
    verbose = verbose or debug
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger() if verbose else logging.getLogger("inc_laaciq")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
    if not verbose:
        warnings.simplefilter("ignore")
        logging.getLogger("torch").setLevel(logging.ERROR)
        logging.getLogger("torchao").setLevel(logging.ERROR)
        # torch sets its own level back when it is imported, but not that of this part, which torchao sets off.
        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
        # Neural Compressor's, which it reads when it is imported, and then warns of accelerators that are not there.
        os.environ.setdefault("LOGLEVEL", "ERROR")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def console() -> Any:
    """Where reports are printed."""
    from rich.console import Console

    return Console(highlight=False)


def print_report(report: Mapping[str, Any]) -> None:
    """Show the content of `laaciq.json`."""
    from inc_laaciq.report.terminal import print_run

    print_run(report, console())


def stages(*, verbose: bool) -> Any:
    """Progress bars on stderr; plain lines where log messages go between them, or nobody watches."""
    from inc_laaciq.report.progress import stages

    return stages(partial(click.echo, err=True), plain=verbose or not sys.stderr.isatty())


def main() -> NoReturn:
    """Run the command line; every outcome is an exit code."""
    carry_out(lambda: cli.main(standalone_mode=False), debug="--debug" in sys.argv[1:])


def carry_out(command: Callable[[], int | None], *, debug: bool) -> NoReturn:
    """Run something that may take long, print what goes wrong, and exit."""
    _survive_narrow_terminals()
    if not debug:
        sys.excepthook = _internal_error
    signal.signal(signal.SIGTERM, _terminate)
    # Read when torch is imported: threads that sleep while they wait cost nothing on a quiet machine, and on a busy
    # one those that spin make a run many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = command()
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except LaaciqError as error:
        code = error.exit_code
        _fail(str(error), debug)
    except (KeyboardInterrupt, click.Abort):
        code = _EXIT_INTERRUPTED
        _fail("interrupted; nothing is half-written", debug)
    except _Terminated:
        code = _EXIT_TERMINATED
        _fail("terminated; nothing is half-written", debug)
    sys.exit(code or 0)


def _fail(message: str, debug: bool) -> None:
    from inc_laaciq.report.characters import visible_lines

    # It may quote a file from a stranger, and a terminal obeys escapes.
    click.echo(f"Error: {visible_lines(message)}", err=True)
    if debug:
        traceback.print_exc()


def _internal_error(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """What an error that nobody foresaw looks like; Python then exits with 1."""
    _fail(f"internal error: {kind.__name__}: {error}. Run again with --debug for the traceback", False)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _survive_narrow_terminals() -> None:
    """A C locale must not turn a report in twenty scripts into a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


if __name__ == "__main__":
    main()
