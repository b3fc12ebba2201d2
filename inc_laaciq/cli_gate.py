"""The commands `inc-laaciq gate` and `inc-laaciq report`: verdicts and reports from stored results, without a model."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inc_laaciq.errors import DataError, MismatchError, SpecError

if TYPE_CHECKING:
    from inc_laaciq.config.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)
_FORMATS = {
    "json": "Everything as one JSON document, which `report` reads.",
    "junit": "JUnit XML: one test a language.",
    "sarif": "SARIF 2.1.0, for code scanning.",
    "summary": "Markdown for a GitHub step summary; added to the file if it is $GITHUB_STEP_SUMMARY.",
    "markdown": "Markdown, whole.",
    "csv": "One row a language, full precision.",
    "html": "One page that needs no network.",
    "model_card": "Metadata and a section for a model card.",
}


def _outputs(command: F) -> F:
    """Options for every format."""
    for kind, what in reversed(_FORMATS.items()):
        command = click.option(f"--{kind.replace('_', '-')}", f"to_{kind}", type=_FILE, metavar="FILE", help=what)(
            command
        )
    return command


@click.command()
@click.argument("candidate", type=_FILE, required=False)
@click.option("--baseline", type=_FILE, help="Results before quantization.  [default: CANDIDATE/baseline.json]")
@click.option("--policy", type=_FILE, help="Policy file; yaml/gate_policy.yaml explains every key.")
@click.option("--max-degradation", metavar="BOUND", help="Of every language: 10%, 0.02npb, 0.5nps; without a policy.")
@click.option("--max-disparity", metavar="BOUND", help="Largest degradation minus smallest; without a policy.")
@click.option("--previous", type=_FILE, help="Results of the last release, for the policy's max_regression.")
@click.option("--strict", is_flag=True, help="Exit with 4 if the verdict is not certain.")
@click.option("--date", "day", metavar="YYYY-MM-DD", help="Day on which waivers are judged.  [default: today, UTC]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--explain", is_flag=True, help="Say what the policy demands of each language, and exit.")
@click.option("--validate", type=_FILE, metavar="POLICY", help="Check a policy file, and exit.")
@click.option("--self-test", is_flag=True, help="Pass known-good and known-bad results through the gate, and exit.")
@_outputs
def gate(
    candidate: Path | None,
    baseline: Path | None,
    policy: Path | None,
    max_degradation: str | None,
    max_disparity: str | None,
    previous: Path | None,
    strict: bool,
    day: str | None,
    seed: int,
    explain: bool,
    validate: Path | None,
    self_test: bool,
    **outputs: Path | None,
) -> None:
    """Judge CANDIDATE by language: exit code 0 pass, 3 failed, 4 undecided (with --strict), 5 not comparable.

    CANDIDATE and BASELINE are results.json of `inc-laaciq evaluate`, an output folder of `inc-laaciq quantize`,
    results of lm-evaluation-harness (with samples; the policy's `tasks:` says which languages they are), or CSV with
    the columns language and loss or perplexity.

    \b
    inc-laaciq gate OUT --max-degradation 5%
    inc-laaciq gate new.json --baseline float.json --policy policy.yaml --junit gate.xml --html gate.html
    inc-laaciq gate --explain --policy policy.yaml
    inc-laaciq gate --validate policy.yaml
    inc-laaciq gate --self-test
    """  # noqa: D301 - click's mark of text to leave as it is
    today = _day(day)
    paths = _given(outputs)
    modes = {"--explain": explain, "--validate": validate is not None, "--self-test": self_test}
    if chosen := [option for option, is_given in modes.items() if is_given]:
        rules_given = [] if explain else [policy, max_degradation, max_disparity]
        _refuse_judging(chosen, [candidate, baseline, previous, *rules_given, *paths.values()])
    if validate is not None:
        _validate(validate)
    elif self_test:
        _self_test()
    elif explain:
        _explain(_policy(policy, max_degradation, max_disparity), today)
    elif candidate is None:
        raise SpecError(
            "no CANDIDATE: give a results file or an output folder, or one of --explain, --validate, --self-test"
        )
    else:
        rules = _policy(policy, max_degradation, max_disparity)
        if previous is not None and rules.max_regression is None:
            raise SpecError("--previous is held against max_regression, which only a --policy has, and this has none")
        inputs = [candidate, candidate / "results.json", baseline, previous, policy]
        _check_outputs(paths, [path for path in inputs if path is not None])
        _judge(candidate, baseline, rules, previous, today, strict=strict, seed=seed, paths=paths)


@click.command()
@click.argument("results", type=_FILE)
@_outputs
def report(results: Path, **outputs: Path | None) -> None:
    """Show what a run or a gate found, and write it in other formats; nothing is measured or judged again.

    RESULTS is laaciq.json, an output folder of `inc-laaciq quantize`, the --json file of `inc-laaciq gate`, or a
    results.json (which is only shown).

    \b
    inc-laaciq report OUT --html report.html --model-card card.md
    """  # noqa: D301 - click's mark of text to leave as it is
    from inc_laaciq.report.render import write_reports
    from inc_laaciq.report.tables import print_results
    from inc_laaciq.report.terminal import print_run

    file = results / "laaciq.json" if results.is_dir() else results
    document = _read_json(file)
    paths = _given(outputs)
    _check_outputs(paths, [file])
    if str(document.get("schema", "")).startswith("inc-laaciq/results/"):
        if paths:
            raise SpecError(f"{file}: results of one model have no verdict to report; compare two with `gate`")
        print_results(document, _console())
        return
    write_reports(document, paths)
    print_run(document, _console())
    _say_written(paths)


def _judge(
    candidate: Path,
    baseline: Path | None,
    policy: Policy,
    previous: Path | None,
    today: datetime.date | None,
    *,
    strict: bool,
    seed: int,
    paths: dict[str, Path],
) -> None:
    from inc_laaciq.evaluation.gate import exit_code, judge
    from inc_laaciq.evaluation.read import read_evaluation
    from inc_laaciq.provenance import meta_without_model
    from inc_laaciq.report.render import write_reports
    from inc_laaciq.report.terminal import print_run

    before = _baseline(candidate, baseline)
    ours, theirs = (read_evaluation(path, policy.tasks) for path in (candidate, before))
    if before.resolve() in (candidate.resolve(), (candidate / "results.json").resolve()):
        raise MismatchError(
            f"{candidate} is given as its own baseline, which shows no harm whatever the model does. Give the results "
            "of the float model as --baseline"
        )
    document = judge(
        ours,
        theirs,
        policy,
        previous=None if previous is None else read_evaluation(previous, policy.tasks),
        today=today,
        seed=seed,
    )
    document |= {"meta": meta_without_model(), "strict": strict}
    write_reports(document, paths)
    print_run(document, _console())
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from inc_laaciq.report.summary import annotations as workflow_commands

        for line in workflow_commands(document):
            click.echo(line)
    _say_written(paths)
    sys.exit(exit_code(document["verdict"], policy, strict=strict))


def _refuse_judging(modes: list[str], given: list[Path | str | None]) -> None:
    """Refuse to leave a candidate unjudged in silence: a CI job would take that for a pass."""
    if len(modes) > 1:
        raise SpecError(f"{' and '.join(modes)} are different things; give one")
    if unused := [str(each) for each in given if each is not None]:
        raise SpecError(f"{modes[0]} judges nothing, so it takes no {', '.join(unused)}")


def _check_outputs(paths: dict[str, Path], inputs: list[Path]) -> None:
    """Refuse, before any work, a report that cannot be written, or that would replace an input or another report."""
    from inc_laaciq.output import check_file

    taken = {path.resolve(): f"the input {path}" for path in inputs}
    for kind, path in paths.items():
        check_file(path)
        place = path.resolve()
        if place in taken:
            raise SpecError(f"--{kind.replace('_', '-')} {path} would overwrite {taken[place]}; choose another name")
        if not path.exists() or path.is_file():  # a terminal or a pipe can take several
            taken[place] = f"--{kind.replace('_', '-')}"


def _baseline(candidate: Path, given: Path | None) -> Path:
    if given is not None:
        return given / "baseline.json" if (given / "baseline.json").is_file() else given
    beside = candidate / "baseline.json"
    if not beside.is_file():
        raise SpecError(f"no --baseline, and {candidate} is no output folder that has one")
    return beside


def _policy(file: Path | None, max_degradation: str | None, max_disparity: str | None) -> Policy:
    from inc_laaciq.config.bounds import parse_bound
    from inc_laaciq.config.policy import Policy, Rule
    from inc_laaciq.config.policy_file import read_policy

    bounds = {"--max-degradation": max_degradation, "--max-disparity": max_disparity}
    given = {option: text for option, text in bounds.items() if text is not None}
    if file is not None:
        if given:
            raise SpecError(f"{', '.join(given)} and --policy say two things; write the bound into {file}")
        return read_policy(file)
    if not given:
        raise SpecError("nothing to judge by: give --policy, --max-degradation or --max-disparity, such as 10%")
    parsed = {}
    for option, text in given.items():
        try:
            parsed[option] = parse_bound(text)
        except SpecError as error:
            raise SpecError(f"{option}={text!r} {error}") from None
    return Policy(
        default=Rule(max_degradation=parsed.get("--max-degradation")), max_disparity=parsed.get("--max-disparity")
    )


def _day(text: str | None) -> datetime.date | None:
    if text is None:
        return None
    from inc_laaciq.config.policy_checks import parse_day

    try:
        return parse_day(text)
    except SpecError as error:
        raise SpecError(f"--date={text!r} {error}") from None


def _validate(file: Path) -> None:
    from inc_laaciq.config.policy_file import read_policy

    policy = read_policy(file)
    for note in policy.notes:
        click.echo(f"note: {note}")
    click.echo(f"{file}: valid")


def _explain(policy: Policy, today: datetime.date | None) -> None:
    from inc_laaciq.config.policy_file import explain

    languages = {*policy.languages, *policy.required_languages, *(waiver.language for waiver in policy.waivers)}
    languages |= {tag for group in policy.groups for tag in group.languages}
    day = today or datetime.datetime.now(datetime.timezone.utc).date()
    click.echo(explain(policy, sorted(languages), today=day))


def _self_test() -> None:
    from inc_laaciq.evaluation.self_test import MARGIN, SABOTAGED, self_test

    found = self_test()
    click.echo(f"{found.repetitions} made results of each kind, judged by max_degradation {MARGIN:.0%}:")
    click.echo(f"  nobody harmed: {found.good_passes:.1%} PASS, {found.good_fails:.1%} FAIL (false failures)")
    click.echo(f"  {SABOTAGED} harmed by exactly the margin: {found.bad_passes:.1%} PASS (false passes; 5% at most)")
    click.echo(f"  {SABOTAGED} harmed by three margins: {found.sabotage_fails:.1%} FAIL and name it")
    click.echo("self-test passed" if found.is_passed else "FAIL: the gate does not do what it promises")
    sys.exit(0 if found.is_passed else 1)


def _read_json(file: Path) -> dict[str, Any]:
    from inc_laaciq.checkpoint.strict_json import parse_object

    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    document: dict[str, Any] = parse_object(content, where=str(file), floats=True)
    return document


def _given(outputs: dict[str, Path | None]) -> dict[str, Path]:
    return {key.removeprefix("to_"): path for key, path in outputs.items() if path is not None}


def _say_written(paths: dict[str, Path]) -> None:
    if paths:
        click.echo(f"Written: {', '.join(str(path) for path in paths.values())}")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)
