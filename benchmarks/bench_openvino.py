"""Does la_aciq harm the worst language less than NNCF does, in the OpenVINO models that are deployed?

    python benchmarks/bench_openvino.py --model DIR --calibration DIR --evaluation DIR --group-size 64 -o FILE.json

Compared are folders with OpenVINO models, as they are read back from the disk:

    la_aciq-fast, -balanced, -fair    `optimum-cli export openvino-laaciq --mode ...`
    nncf-rtn                          what `optimum-cli export openvino --weight-format int4 --sym --ratio 1.0` rounds
    nncf-awq, nncf-scale-estimation, nncf-gptq, nncf-awq-scale-estimation
                                      NNCF's other methods for the same command

All have the same linear layers in 4 bits with the same group size, which is read from the models and checked;
embeddings and output projection stay in float in all (NNCF, left alone, takes 8 bits for them).  All are given the same
rows of calibration text of all languages, and all of them: NNCF's limits on the number of rows are lifted.  In how many
layers nncf-rtn has the codes and scales of optimum's own command is found by running that.

Each is scored twice: as OpenVINO runs it if it is asked for nothing, which is what is deployed, and in float32.  The
loss of the float model in PyTorch is subtracted; what the float model loses in OpenVINO is in the result too.  Tokens
per second are measured in turns, A B C A B C, on one processor.

Texts are folders of `<language>.txt`: a line is a sentence, a blank line ends a document.  A finished cell (the model
of one method, and its losses) is a file in FILE.cells, beside a folder with the model.  Ctrl-C loses only what is being
done, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from deployed.cells import cells_of, do, file_of, label, model_of
from deployed.collect import collect, judge
from deployed.make import BITS, MODEL, OURS, THEIRS
from deployed.optimum import plain_export
from deployed.rate import measure
from deployed.report import terminal
from methods import ours  # noqa: F401 - they enter the table of methods
from methods.bench import Bench, Options
from methods.cells import FLOAT, Cell, read_cell
from methods.collect import commit
from methods.registry import METHODS, LayersError

from inc_laaciq.output import check_file, write_json_atomic
from inc_laaciq.provenance import meta

REFERENCE = "nncf-rtn"
SLOW = "la_aciq-fair"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except LayersError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--model", required=True, help="folder of a causal language model in float")
    found.add_argument("--calibration", required=True, help="folder of <language>.txt, to solve for")
    found.add_argument("--evaluation", required=True, help="folder of <language>.txt, to measure on")
    found.add_argument("--group-size", type=int, default=64, help="weights that share a scale (default: 64)")
    found.add_argument("--seed", type=int, default=0, help="of the calibration text (default: 0)")
    found.add_argument("--calibration-tokens", type=int, default=2048, help="of each language (default: 2048)")
    found.add_argument("--eval-tokens", type=int, default=4096, help="of each language; 0 = all (default: 4096)")
    found.add_argument(
        "--methods", type=names, default="all", metavar="NAME,NAME",
        help=f"default: all but {SLOW}, which takes minutes even on a small model; {REFERENCE} is always there",
    )  # fmt: skip
    found.add_argument("--fair", action="store_true", help=f"also {SLOW}")
    found.add_argument("--prompt", type=int, default=256, help="tokens that are read at once, for prefill")
    found.add_argument("--steps", type=int, default=64, help="tokens after it, one by one, for decode")
    found.add_argument("--rounds", type=int, default=15, help="of the measurement of speed; 0 = none (default: 15)")
    found.add_argument("--cells", type=Path, help="folder of finished cells; FILE.cells unless given")
    found.add_argument("--dry-run", action="store_true", help="print what is still to be done")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    return found


def names(text: str) -> list[str]:
    """Methods of a list with commas, in the order of the table, for argparse."""
    known = [*OURS, *THEIRS]
    wanted = [name for name in known if name != SLOW] if text == "all" else text.split(",")
    if unknown := sorted(set(wanted) - set(known)):
        raise argparse.ArgumentTypeError(f"no method is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in wanted or name == REFERENCE]


def run(options: argparse.Namespace) -> int:
    """Do what is missing, and write the result."""
    folder = options.cells or options.output.with_suffix(".cells")
    bench = Bench(Options.of(options, folder))
    methods = [name for name in (*OURS, *THEIRS) if name in options.methods or (options.fair and name == SLOW)]
    cells = cells_of(methods, group_size=options.group_size, seed=options.seed)
    missing = [cell for cell in cells if not file_of(cell, bench).exists()]
    if options.dry_run:
        print(f"{len(cells) - len(missing)} of {len(cells)} cells are done; to do:")
        print("\n".join(label(cell) for cell in missing))
        return 0
    check_file(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    origin = description(bench, options)  # first, as others may work on the code meanwhile
    work(missing, bench)
    content = {**origin, **collect({cell: read_cell(file_of(cell, bench)) for cell in cells})}
    content["texts"] = texts(bench, read_cell(file_of(cells[0], bench))["documents"])
    content["optimum_cli"] = own_command(bench, next(cell for cell in cells if cell.method == REFERENCE))
    if options.rounds:
        content["rates"] = measure(
            {FLOAT if cell.method == FLOAT else cell.method: model_of(cell, bench) / MODEL for cell in cells[1:]},
            REFERENCE,
            vocabulary=bench.source.model.config.vocab_size,
            prompt=options.prompt,
            steps=options.steps,
            rounds=options.rounds,
            folder=folder,
        )
        content["targets"] = judge(content["rates"])
    write_json_atomic(options.output, content)
    print(terminal(content))
    print(f"wrote {options.output}")
    return 0


def work(missing: list[Cell], bench: Bench) -> None:
    """Do the missing cells, and say how far it is."""
    started = time.perf_counter()
    for done, cell in enumerate(missing, 1):
        seconds = do(cell, bench)
        left = (time.perf_counter() - started) / done * (len(missing) - done)
        print(f"[{done}/{len(missing)}] {label(cell)}: {seconds:.1f} s; about {left / 60:.1f} min left", flush=True)


def own_command(bench: Bench, plain: Cell) -> dict[str, Any]:
    """What optimum's own command gives; kept beside the cells."""
    path = file_of(plain, bench).with_suffix(".optimum.json")
    if not path.exists():
        job = bench.job("none", BITS, plain.group_size, 0)
        write_json_atomic(path, plain_export(bench.options.model, job, model_of(plain, bench)))
    return read_cell(path)


def description(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """What is compared, by which code, on what machine."""
    found, model = meta(), bench.source.model
    packages = {name: have for method in METHODS.values() for name, have in method.versions().items() if have}
    return {
        "question": (__doc__ or "").splitlines()[0],
        "meta": {
            **found,
            "versions": {**packages, **found["versions"]},
            "commit": commit(),
            "processors": os.cpu_count(),
            "load": list(os.getloadavg()),
            "bits": BITS,
            "group_size": options.group_size,
            "seed": options.seed,
            "calibration_tokens_per_language": options.calibration_tokens,
            "evaluation_tokens_per_language": options.eval_tokens,
            "sequence_length": bench.sequence_length,
        },
        "model": {
            "name": Path(options.model).resolve().name,
            "sha256": bench.source.weights_sha256,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "architecture": type(model).__name__,
        },
        "float_layers": bench.layers(BITS, options.group_size)[1],
        "units": {"degradation": "nats per byte", "kl": "nats per byte"},
    }


def texts(bench: Bench, documents: dict[str, Any]) -> dict[str, Any]:
    """Digests and sizes of the texts."""
    return {
        "calibration_sha256": bench.calibration.sha256,
        "evaluation_sha256": bench.evaluation.sha256,
        "evaluation_tokens": {tag: sum(sums["tokens"]) for tag, sums in documents.items()},
        "evaluation_documents": {tag: len(sums["tokens"]) for tag, sums in documents.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
