"""What does `optimum-cli export openvino-laaciq` take beyond optimum's own export of the float model?

    python benchmarks/bench_export_cost.py -o FILE.json                   # a Llama of 135 M random weights
    python benchmarks/bench_export_cost.py --model DIR --calibration DIR --languages en de -o FILE.json
    python benchmarks/bench_export_cost.py --quick -o FILE.json           # a tiny model; shows that it works

Runs, each in a process of its own, in turns:

- `optimum-cli export openvino --weight-format fp32`
- `optimum-cli export openvino-laaciq --weight-format int4 --mode fast`, which needs no text
- the same from Python, with the time of each stage
- `optimum-cli export openvino-laaciq --mode balanced`, where there is --calibration, a folder of `<language>.txt`

Memory is the largest resident memory that the system counts for a process.  Promised: `fast` takes at most 1.1 times
that of the float export, and in one run solver and surgery (codes into the model, two writes, two proofs that what was
written is what was solved) take at most as long as the float export that is part of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that are started
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from export_cost import names
from export_cost.runs import Subject, measure, runs_of
from export_cost.targets import judge, ratios
from methods.child import run_child
from methods.collect import commit
from methods.registry import version

from inc_laaciq.checkpoint import sha256_of_files
from inc_laaciq.output import check_file, write_json_atomic
from inc_laaciq.provenance import meta


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parser().parse_args(arguments)
    if options.repetitions < 1:
        parser().error("--repetitions is 1 or more; published figures take 3")
    check_file(options.output)
    with tempfile.TemporaryDirectory(dir=options.scratch) as place:
        folder = Path(place)
        model = folder / "model" if options.model is None else options.model.resolve()
        if options.model is None:
            run_child("-m", "export_cost.model", str(model), *(["--quick"] if options.quick else []))
        subject = Subject(
            model=model,
            group_size=options.group_size,
            texts=texts(options, folder),
            tokens=options.tokens,
        )
        origin = description(options, subject)  # first, as others may work on the code meanwhile
        found = measure(runs_of(subject, folder), folder, options.repetitions)
        content = {"runs": found, "ratios": ratios(found), **origin}
    content["targets"] = judge(content["ratios"])
    write_json_atomic(options.output, content)
    print(terminal(content))
    print(f"wrote {options.output}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--model", type=Path, help="folder of a float model; random weights unless given")
    found.add_argument("--name", help="of the model, for the result; the folder's unless given")
    found.add_argument("--calibration", type=Path, help="folder of <language>.txt, for mode balanced")
    found.add_argument("--languages", nargs="+", help="of that text; all unless given")
    found.add_argument("--tokens", type=int, default=256, help="of each language (default: 256)")
    found.add_argument("--group-size", type=int, default=64, help="weights that share a scale (default: 64)")
    found.add_argument("--repetitions", type=int, default=3, help="of every run (default: 3)")
    found.add_argument("--scratch", type=Path, help="folder for what is exported, which is removed")
    found.add_argument("--quick", action="store_true", help="tiny random weights, for a test of this program")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    return found


def texts(options: argparse.Namespace, folder: Path) -> Path | None:
    """A folder with the text of the languages that are asked for."""
    if options.calibration is None or not options.languages:
        return None if options.calibration is None else options.calibration.resolve()
    chosen = folder / "texts"
    chosen.mkdir()
    for tag in options.languages:
        shutil.copy(options.calibration / f"{tag}.txt", chosen)
    return chosen


def description(options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """What was measured, by which code, on what machine."""
    packages = {name: version(name) for name in ("openvino", "nncf", "optimum", "optimum-intel")}
    found = meta()
    given = None if options.model is None else options.name or subject.model.name
    return {
        "question": (__doc__ or "").splitlines()[0],
        "meta": {
            **found,
            "threads": 1,
            "versions": {**packages, **found["versions"]},
            "commit": commit(),
            "processors": os.cpu_count(),
            "load": list(os.getloadavg()),
        },
        "model": {
            "name": given or "a Llama with random weights",
            "sha256": sha256_of_files(sorted(subject.model.glob("*.safetensors"))),
            "bytes": sum(file.stat().st_size for file in subject.model.glob("*.safetensors")),
        },
        "settings": {
            "group_size": subject.group_size,
            "repetitions": options.repetitions,
            "languages": None if subject.texts is None else sorted(file.stem for file in subject.texts.glob("*.txt")),
            "tokens_per_language": subject.tokens,
        },
        "is_quick": options.quick,
        "units": {"seconds": "s", "processor_seconds": "s", "peak_bytes": "bytes of resident memory"},
    }


def terminal(content: dict[str, Any]) -> str:
    """Everything that was measured, and the verdicts."""
    lines = [
        f"{name:50} {entry['peak_bytes'] / 1e6:7.0f} MB  {entry['processor_seconds']:6.1f} s of a processor  "
        f"{entry['seconds']:6.1f} s"
        for name, entry in content["runs"].items()
    ]
    for stage, entry in content["runs"][names.STAGES]["stages"].items():
        lines.append(
            f"  {stage:48} {'':10}  {entry['processor_seconds']:6.1f} s of a processor  {entry['seconds']:6.1f} s"
        )
    lines += [f"{name}: {value:.3f}" for name, value in content["ratios"].items()]
    lines += [
        f"{entry['verdict']:6} {entry['name']}: {entry['value']:.3f}, {entry['side']} {entry['limit']:g}"
        for entry in content["targets"]
    ]
    if content["is_quick"]:
        lines.append("quick mode: the model is too small for these figures to mean anything")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
