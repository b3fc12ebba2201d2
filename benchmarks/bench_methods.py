"""Does la_aciq harm the worst language less than the methods of Neural Compressor and NNCF do?

    python benchmarks/bench_methods.py --model DIR --calibration DIR --evaluation DIR --bits 4 3 -o FILE.json
    python benchmarks/bench_methods.py --list
    python benchmarks/bench_methods.py --render FILE.json

Every method quantizes the same layers of a fresh copy of the same model and is given the same rows of calibration
text; its own released code does the work.  All models are scored on the same sentences.  Texts are folders of
`<language>.txt`: a line is a sentence, a blank line ends a document.

A finished cell (one method, calibration, width and seed) is a file of its own.  Ctrl-C loses only what is being done,
and the same command goes on from there; a cell is done anew only if something that it depends on has changed.
Methods of a package that is not installed here are taken from the folder of cells, where the same command has been run
in an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import as_completed
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from methods import inc_adaptor, inc_autoround, inc_torch, nncf_openvino, ours  # noqa: F401 - they enter the table
from methods.bench import Bench, Options
from methods.cells import FLOAT, Cell, finished_elsewhere, path_of, plan, read_cell
from methods.collect import collect, commit, ordered
from methods.registry import METHOD_VERSION, METHODS, LayersError, Method, NotRunError
from methods.report import markdown, picture
from methods.work import do, do_in_process
from methods.workers import pool

from inc_laaciq.errors import LaaciqError
from inc_laaciq.output import check_file, write_json_atomic, write_text_atomic
from inc_laaciq.provenance import meta

FAILURES = (LaaciqError, ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError)
FAILURES += (TypeError, ValueError)
"""What --keep-going records; a method that quantized other layers is never passed over."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parser().parse_args(arguments)
    if options.list:
        print(table(options.bits))
        return 0
    if options.render:
        render(options.render)
        return 0
    if not (options.model and options.calibration and options.evaluation and options.output):
        parser().error("--model, --calibration, --evaluation and -o are needed")
    try:
        return run(options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--model", help="folder of a causal language model")
    found.add_argument("--calibration", help="folder of <language>.txt")
    found.add_argument("--evaluation", help="folder of <language>.txt")
    found.add_argument("--bits", type=int, nargs="+", default=[4])
    found.add_argument("--group-size", type=int, nargs="+", default=[64])
    found.add_argument(
        "--grid",
        type=grid,
        nargs="+",
        metavar="BITS:GROUP",
        help="these pairs, such as 4:32 2:64 4:-1, instead of every --bits with every --group-size",
    )
    found.add_argument("--seeds", type=int, default=3, help="of the calibration text; data-free methods have one")
    found.add_argument("--methods", default="all", help="names with commas between them")
    found.add_argument("--calibration-tokens", type=int, default=4096, help="of each language")
    found.add_argument("--eval-tokens", type=int, default=0, help="of each language; 0 = all")
    found.add_argument("--jobs", type=int, default=1, help="processes, each on one thread")
    found.add_argument("--cells", type=Path, help="folder of finished cells; FILE.cells unless given")
    found.add_argument("--keep-going", action="store_true", help="record a method that fails, and go on")
    found.add_argument("--list", action="store_true", help="print the methods and what each needs")
    found.add_argument("--dry-run", action="store_true", help="print what is still to be done")
    found.add_argument("--render", type=Path, metavar="FILE.json", help="write FILE.md and FILE.svg")
    found.add_argument("-o", "--output", type=Path)
    return found


def grid(text: str) -> tuple[int, int]:
    """Bits and group size of `4:32`."""
    bits, _, group_size = text.partition(":")
    return int(bits), int(group_size)  # argparse tells what was given where either is no number


def table(bits: list[int]) -> str:
    """All methods: what they are calibrated on, what they are, and why one cannot be run here."""
    lines = []
    for method in METHODS.values():
        lines.append(f"{method.name:28} {method.about}; calibration: {', '.join(method.calibrations)}")
        versions = method.versions()
        lines.append(f"{'':28} needs {', '.join(f'{name} {have or chr(45)}' for name, have in versions.items())}")
        lines += [f"{'':28} {width} bits: {reason}" for width in bits if (reason := method.unavailable(width))]
    return "\n".join(lines)


def chosen(names: str) -> list[Method]:
    """Methods of a comma-separated list, in the order of the table."""
    wanted = list(METHODS) if names == "all" else names.split(",")
    unknown = sorted(set(wanted) - set(METHODS))
    if unknown:
        raise SystemExit(f"no method is called {', '.join(unknown)}. There are {', '.join(METHODS)}.")
    return [method for name, method in METHODS.items() if name in wanted]


def run(options: argparse.Namespace) -> int:
    """Do what is missing, and write the result."""
    folder = options.cells or options.output.with_suffix(".cells")
    bench = Bench(Options.of(options, folder))
    grids = options.grid or list(product(options.bits, options.group_size))
    methods = chosen(options.methods)
    cells, not_run = plan(methods, grids=grids, seeds=options.seeds)
    elsewhere = finished_elsewhere(methods, grids=grids, seeds=options.seeds, bench=bench)
    done_elsewhere = {(cell.method, cell.bits) for cell in elsewhere}
    not_run = [entry for entry in not_run if (entry["method"], entry["bits"]) not in done_elsewhere]
    paths = {**{cell: path_of(cell, bench) for cell in cells}, **elsewhere}
    missing = [cell for cell, path in paths.items() if not path.exists()]
    if options.dry_run:
        print(f"{len(paths) - len(missing)} of {len(paths)} cells are done; to do:")
        print("\n".join(cell.label for cell in missing))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    check_file(options.output)
    not_run += work(missing, bench, jobs=options.jobs, keep_going=options.keep_going)
    results = {cell: read_cell(path) for cell, path in paths.items() if path.exists()}
    try:
        content = result(results, bench)
    except LayersError as error:
        raise SystemExit(str(error)) from error
    write_json_atomic(options.output, {**content, "not_run": not_run})
    print(f"wrote {options.output}: {len(results)} cells, {len(not_run)} not run")
    return 0


def work(missing: list[Cell], bench: Bench, *, jobs: int, keep_going: bool) -> list[dict[str, Any]]:
    """Do the missing cells, and say how far it is; what could not be run and why."""
    not_run: list[dict[str, Any]] = []
    start, total = time.perf_counter(), len(missing)
    recorded = (ImportError, NotRunError, *(FAILURES if keep_going else ()))

    def finish(cell: Cell, done: int, seconds: float) -> None:
        spent = time.perf_counter() - start
        left = spent / done * (total - done)
        print(f"[{done}/{total}] {cell.label}: {seconds:.1f} s; about {left / 60:.1f} min left", flush=True)

    def refuse(cell: Cell, error: BaseException) -> None:
        why = f"{type(error).__name__}: {error}"
        not_run.append({"method": cell.method, "bits": cell.bits, "cell": cell.label, "why": why})
        print(f"{cell.label}: not run: {why}", flush=True)

    if missing and missing[0].method == FLOAT:  # the others are measured against it
        finish(missing[0], 1, do(missing[0], bench))
    waiting = [cell for cell in missing if cell.method != FLOAT]
    done = total - len(waiting)
    if jobs <= 1:
        for cell in waiting:
            done += 1
            try:
                finish(cell, done, do(cell, bench))
            except recorded as error:
                refuse(cell, error)
        return not_run
    processes = pool(jobs)
    try:
        futures = {processes.submit(do_in_process, cell, bench.options): cell for cell in waiting}
        for future in as_completed(futures):
            done += 1
            try:
                finish(futures[future], done, future.result())
            except recorded as error:
                refuse(futures[future], error)
    finally:
        processes.shutdown(cancel_futures=True)
    return not_run


def result(results: dict[Cell, dict[str, Any]], bench: Bench) -> dict[str, Any]:
    """Content of the JSON file."""
    content = collect(ordered(results))
    versions = {name: have for method in METHODS.values() for name, have in method.versions().items() if have}
    found, model = meta(), bench.source.model
    content["meta"] = {
        **found,
        "versions": {**versions, **found["versions"]},
        "commit": commit(),
        "method_version": METHOD_VERSION,
        "calibration_tokens_per_language": bench.options.calibration_tokens,
        "evaluation_tokens_per_language": bench.options.eval_tokens,
        "sequence_length": bench.sequence_length,
    }
    content["model"] = {
        "name": Path(bench.options.model).resolve().name,
        "sha256": bench.source.weights_sha256,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "architecture": type(model).__name__,
    }
    documents = results[Cell(method=FLOAT)]["documents"]
    content["texts"] = {
        "calibration_sha256": bench.calibration.sha256,
        "evaluation_sha256": bench.evaluation.sha256,
        "evaluation_tokens": {tag: sum(sums["tokens"]) for tag, sums in documents.items()},
        "evaluation_documents": {tag: len(sums["tokens"]) for tag, sums in documents.items()},
        "calibration_tokens": {
            run["calibration"]: run["calibration_tokens"]
            for run in content["runs"]
            if not run["method"].endswith("-pooled") and run["calibration"] != "none"
        },
    }
    return content


def render(path: Path) -> None:
    """Write the tables and the picture of a result beside it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    write_text_atomic(path.with_suffix(".md"), markdown(content))
    picture(content, path.with_suffix(".svg"))
    print(f"wrote {path.with_suffix('.md')} and {path.with_suffix('.svg')}")


if __name__ == "__main__":
    sys.exit(main())
