"""Policies from yaml: every key, every mistake with its line, and both places where a policy can stand."""

from __future__ import annotations

import copy
import datetime
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from inc_laaciq.config import Policy, explain, parse_bound, read_config, read_policy, run_spec
from inc_laaciq.errors import SpecError

PRESET = Path(__file__).parents[2] / "yaml" / "gate_policy.yaml"

FULL = """\
version: 1
max_degradation: 5%
max_disparity: 0.02npb
relative_to: en
max_regression: 0.5nps
severity: warn
confidence: 90%
min_sentences: 12
inconclusive: fail
not_run: warn
baseline_id: {digest}
required_languages: [de, no]
groups:
  - name: low
    languages: [swh, yo]
    scripts: [ethi]
    families: [Turkic]
    max_degradation: 3%
    max_disparity: 2%
    severity: error
  - {{name: label, scripts: [Arab]}}
languages:
  no: 4%
  fr: {{severity: error}}
waivers:
  - language: yo
    max_degradation: 9%
    owner: o
    reason: |
      two
      lines
    ticket: T-1
    expires: 2027-01-31
tasks:
  "belebele_{{language}}":
    metric: acc
    higher_is_better: false
    max_degradation: 2pp
    max_disparity: 3pp
    severity: warn
""".format(digest="ab" * 32)


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(SpecError, match=r".") as caught:
        read_policy(write(folder, text))
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "")


def test_every_key_is_read_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, FULL)
    policy = read_policy(path)
    assert (str(policy.default.max_degradation), policy.default.severity, policy.default.line) == ("5%", "warn", 2)
    assert (str(policy.max_disparity), policy.relative_to, str(policy.max_regression)) == ("0.02npb", "en", "0.5nps")
    assert (policy.confidence, policy.min_sentences) == (0.9, 12)
    assert (policy.inconclusive, policy.not_run) == ("fail", "warn")
    assert policy.baseline_id == "ab" * 32
    assert policy.required_languages == ("de", "no")
    low, label = policy.groups
    assert (low.name, low.languages, low.scripts, low.families) == ("low", ("sw", "yo"), ("Ethi",), ("Turkic",))
    assert (str(low.rule.max_degradation), str(low.max_disparity), low.rule.severity) == ("3%", "2%", "error")
    assert (low.rule.line, label.rule.line, label.rule.is_empty) == (18, 21, True)
    assert {tag: rule.line for tag, rule in policy.languages.items()} == {"no": 23, "fr": 24}
    assert (str(policy.languages["no"].max_degradation), policy.languages["fr"].severity) == ("4%", "error")
    (waiver,) = policy.waivers
    assert (waiver.language, str(waiver.max_degradation), waiver.expires) == ("yo", "9%", datetime.date(2027, 1, 31))
    assert (waiver.owner, waiver.reason, waiver.ticket, waiver.line) == ("o", "two\nlines\n", "T-1", 27)
    (task,) = policy.tasks
    assert (task.pattern, task.metric, task.higher_is_better) == ("belebele_{language}", "acc", False)
    assert (task.max_degradation, task.max_disparity) == (parse_bound("2pp"), parse_bound("3pp"))
    assert (task.severity, task.line) == ("warn", 35)
    assert policy.source == str(path)
    assert policy.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (policy.lines["max_disparity"], policy.lines["groups[0].max_disparity"]) == (3, 19)
    assert [note.split("policy.yaml:")[1] for note in policy.notes] == [
        "12: required_languages[1] is the language no (Norwegian). Quote it: YAML 1.1 takes it for a boolean.",
        "15: groups[0].languages[0] 'swh' is read as 'sw' (Swahili).",
        "23: languages.no is the language no (Norwegian). Quote it: YAML 1.1 takes it for a boolean.",
    ]


def test_the_shortest_policy_has_the_defaults(tmp_path: Path) -> None:
    policy = read_policy(write(tmp_path, "version: 1\nmax_regression: 2%\n"))
    assert policy == Policy(max_regression=parse_bound("2%"))
    assert (policy.confidence, policy.min_sentences) == (0.95, 30)
    assert (policy.inconclusive, policy.not_run) == ("warn", "fail")


@pytest.mark.parametrize(
    ("given_confidence", "value"), [("0.95", 0.95), ("95%", 0.95), ("'99.9 %'", 0.999), (".8", 0.8), ("97.5%", 0.975)]
)
def test_confidence(tmp_path: Path, given_confidence: str, value: float) -> None:
    text = f"version: 1\nmax_degradation: 1%\nconfidence: {given_confidence}\n"
    assert read_policy(write(tmp_path, text)).confidence == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 2", "1: version=2 is not a version that this release reads. Allowed: 1."),
        ("version: true", "1: version=True is not a version"),
        ("version: '1'", "1: version='1' is not a version"),
        ("max_degradation: 5%", "1: the file has no version. Write version: 1, at the top of a policy file."),
        ("version: 1", " a gate without a bound judges nothing."),
        ("version: 1\nversion: 1", "2: key 'version' is given twice"),
        ("version: 1\npolicy: a.yaml", "2: policy is refused: a policy file holds the policy itself"),
        ("version: !!python/object:os.system 1", "1: tag "),
        ("- 1", "1: the file holds a list, not a mapping"),
        ("", " the file is empty."),
    ],
)
def test_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text).startswith(f"policy.yaml:{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_degredation: 5%", "3: max_degredation is not a known key at the top. Did you mean 'max_degradation'?"),
        ("groups: [{nam: a}]", "3: groups[0].nam is not a known key in groups[0]. Did you mean 'name'?"),
        ("languages: {sw: {max_degradation: 5%, owner: a}}", "3: languages.sw.owner is not a known key"),
        (
            "waivers: [{langauge: sw}]",
            "3: waivers[0].langauge is not a known key in waivers[0]. Did you mean 'language'",
        ),
        ("tasks: {'a_{language}': {metrics: acc}}", "3: tasks['a_{language}'].metrics is not a known key"),
        ("max_disparity: 2pp", "3: max_disparity='2pp' is in percentage points of accuracy, which bound tasks."),
        ("max_disparity: 0.05", "3: max_disparity=0.05 has no unit. Write '5%'"),
        ("max_regression:", "3: max_regression=None is not a bound."),
        ("severity: fail", "3: severity='fail' is not known. Allowed: error, warn."),
        (
            "confidence: 0.5",
            "3: confidence=0.5 is out of range. Allowed: above 0.5 and below 1, such as 0.95 or '95%'.",
        ),
        ("confidence: 95", "3: confidence=95 is out of range. Allowed: above 0.5 and below 1; write 0.95 or '95%'."),
        ("confidence: '0.95'", "3: confidence='0.95' is not a confidence. Write a number such as 0.95, or '95%'."),
        ("confidence: 100%", "3: confidence='100%' is out of range."),
        ("min_sentences: 1", "3: min_sentences=1 is out of range. Allowed: 2 or more."),
        ("inconclusive: pass", "3: inconclusive='pass' is not known. Allowed: fail, warn."),
        ("not_run: no", "3: not_run='no' is not known."),
        ("baseline_id: abc", "3: baseline_id='abc' is not a content hash."),
        ("baseline_id: 123", "3: baseline_id=123 is not a content hash."),
        ("relative_to: xx", "3: relative_to 'xx' is not a known language."),
        ("relative_to: false", "3: relative_to is the boolean false, not a language. For Norwegian write 'no'"),
        ("required_languages: []", "3: required_languages=[] must be a list with something in it"),
        ("required_languages: sw", "3: required_languages='sw' must be a list"),
        ("required_languages: [en, false]", "3: required_languages[1] is the boolean false"),
        ("required_languages: [zh, cmn]", "3: required_languages language Chinese (zh) is given twice"),
        ("groups: {}", "3: groups must be a list with something in it."),
        ("groups: []", "3: groups=[] must be a list with something in it."),
        ("groups: [a]", "3: groups[0] must be a mapping of keys to values."),
        ("groups: [{languages: [sw]}]", "3: groups[0] has no name. Write name: low-resource."),
        ("groups: [{name: ' ', languages: [sw]}]", "3: groups[0].name=' ' is empty"),
        ("groups:\n  - severity: warn\n    name: a", "5: groups[0].name='a' selects no language."),
        ("groups: [{name: a, languages: []}]", "3: groups[0].languages=[] must be a list with something in it"),
        ("groups: [{name: a, scripts: [Arabic]}]", "3: groups[0].scripts[0] 'Arabic' is not a script"),
        ("groups: [{name: a, scripts: [Arab, arab]}]", "3: groups[0].scripts[1] 'arab' is listed twice."),
        ("groups: [{name: a, scripts: Arab}]", "3: groups[0].scripts='Arab' must be a list"),
        ("groups: [{name: a, families: [bantu]}]", "3: groups[0].families[0] 'bantu' is not a known language family."),
        ("groups: [{name: a, families: [Niger Congo]}]", "3: groups[0].families[0] 'Niger Congo' is not a known"),
        ("groups: [{name: a, families: [7]}]", "3: groups[0].families[0] 7 is not a known language family."),
        (
            "groups:\n  - name: a\n    languages: [sw]\n    max_disparity: 1%",
            "6: groups[0].max_disparity='1%' needs two languages to compare",
        ),
        (
            "groups:\n  - {name: a, languages: [sw]}\n  - {name: a, languages: [yo]}",
            "5: two groups are named 'a'.",
        ),
        ("languages: {}", "3: languages is empty."),
        ("languages:", "3: languages=None must be a mapping"),
        ("languages:\n  sw: {}", "4: languages.sw says nothing. Write max_degradation or severity."),
        ("languages:\n  sw:", "4: languages.sw=None is not a bound."),
        ("languages: {sw: 5}", "3: languages.sw=5 has no unit."),
        ("languages: {sw: 2pp}", "3: languages.sw='2pp' is in percentage points"),
        ("languages: {sw: 5%, swh: 5%}", "3: languages language Swahili (sw) is given twice, as 'sw' and as 'swh'."),
        ("languages: {xx: 5%}", "3: languages.xx 'xx' is not a known language."),
        ("languages: {'false': 5%}", "3: languages.false 'false' is not a known language."),
        ("relative_to: en\nlanguages:\n  en: 1%", "5: max_degradation 1% of language en is relative to en itself"),
        ("tasks: {}", "3: tasks is empty."),
        (
            "tasks: {belebele: {metric: acc}}",
            "3: tasks.belebele is not the name of a task with {language} in it exactly",
        ),
        ("tasks:\n  'a_{language}': {}", "4: tasks['a_{language}'] has no metric. Write metric: acc."),
        ("tasks: {'a_{language}': {metric: 'acc,a,b'}}", "3: tasks['a_{language}'].metric='acc,a,b' is not the name"),
        (
            "tasks: {'a_{language}': {metric: acc, max_degradation: 2%}}",
            "3: tasks['a_{language}'].max_degradation='2%' is in %, which bounds likelihood",
        ),
        (
            "tasks: {'a_{language}': {metric: acc, max_disparity: 2}}",
            "3: tasks['a_{language}'].max_disparity=2 has no unit. Write percentage points of accuracy, such as '2pp'.",
        ),
        (
            "tasks: {'a_{language}': {metric: acc, higher_is_better: yes}}",
            "3: tasks['a_{language}'].higher_is_better='yes' is not read as a boolean here.",
        ),
    ],
)
def test_wrong_key_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    found = refused(tmp_path, f"version: 1\nmax_degradation: 5%\n{text}\n")
    assert found.startswith(f"policy.yaml:{message}")


def test_the_family_that_was_meant_is_suggested(tmp_path: Path) -> None:
    text = "version: 1\nmax_degradation: 5%\ngroups: [{name: a, families: [niger congo]}]\n"
    assert "Did you mean 'Niger-Congo'? Known: Abkhaz-Adyge, " in refused(tmp_path, text)


WAIVER = {
    "language": "tr",
    "max_degradation": "9%",
    "owner": "o",
    "reason": "r",
    "ticket": "t",
    "expires": "2027-01-31",
}


def waived(tmp_path: Path, **changes: Any) -> str:
    waiver = {key: value for key, value in {**WAIVER, **changes}.items() if value != "absent"}
    lines = "\n    ".join(f"{key}: {value}" for key, value in waiver.items())
    return f"version: 1\nmax_degradation: 5%\nwaivers:\n  - {lines}\n"


@pytest.mark.parametrize("key", WAIVER)
def test_every_key_of_a_waiver_is_required(tmp_path: Path, key: str) -> None:
    found = refused(tmp_path, waived(tmp_path, **{key: "absent"}))
    assert found.startswith(f"policy.yaml:4: waivers[0] has no {key}. Write {key}: ")


@pytest.mark.parametrize("key", ["owner", "reason", "ticket"])
@pytest.mark.parametrize("value", ["''", "'  '", "", "7"])
def test_empty_words_are_refused_in_a_waiver(tmp_path: Path, key: str, value: str) -> None:
    line = 4 + list(WAIVER).index(key)
    found = refused(tmp_path, waived(tmp_path, **{key: value}))
    assert found.startswith(f"policy.yaml:{line}: waivers[0].{key}=")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("expires", "2027-02-30", "9: waivers[0].expires='2027-02-30' is not a day: "),
        ("expires", "20270131", "9: waivers[0].expires=20270131 is not a day. Write year, month and day"),
        ("expires", "2027-01-31 12:00", "9: waivers[0].expires='2027-01-31 12:00' is not a day."),
        ("expires", "never", "9: waivers[0].expires='never' is not a day."),
        ("language", "xx", "4: waivers[0].language 'xx' is not a known language."),
        ("language", "false", "4: waivers[0].language is the boolean false"),
        (
            "max_degradation",
            "3%",
            "5: the waiver for Turkish (tr) allows 3%, which is no more than the bound that holds ",
        ),
        (
            "max_degradation",
            "1npb",
            "5: the waiver for Turkish (tr) is in npb, but the bound that holds without it, 5% ",
        ),
        ("max_degradation", "9pp", "5: waivers[0].max_degradation='9pp' is in percentage points"),
    ],
)
def test_wrong_waiver_is_refused_with_its_line(tmp_path: Path, key: str, value: str, message: str) -> None:
    assert refused(tmp_path, waived(tmp_path, **{key: value})).startswith(f"policy.yaml:{message}")


def test_a_waiver_is_held_against_the_rule_of_its_own_language(tmp_path: Path) -> None:
    found = refused(tmp_path, waived(tmp_path) + "groups:\n  - {name: a, families: [Turkic], max_degradation: 10%}\n")
    assert "no more than the bound that holds without it, 10% (group a on line 11). Widen the waiver" in found


def test_two_waivers_for_one_language_are_refused(tmp_path: Path) -> None:
    text = waived(tmp_path)
    found = refused(tmp_path, text + text.split("waivers:\n")[1].replace("tr", "tur"))
    assert found.startswith("policy.yaml:11: waivers: language Turkish (tr) is given twice")


# Norway


def test_no_is_norwegian_everywhere(tmp_path: Path) -> None:
    text = waived(tmp_path, language="no") + "relative_to: en\nrequired_languages: [no]\nlanguages: {no: 4%}\n"
    policy = read_policy(write(tmp_path, text + "groups: [{name: a, languages: [no]}]\n"))
    assert (policy.waivers[0].language, policy.required_languages, list(policy.languages)) == ("no", ("no",), ["no"])
    assert policy.groups[0].languages == ("no",)
    assert len([note for note in policy.notes if "Quote it: YAML 1.1 takes it for a boolean." in note]) == 4


def test_quoted_no_needs_no_note(tmp_path: Path) -> None:
    text = 'version: 1\nmax_degradation: 5%\nrelative_to: "no"\nlanguages: {"en": 4%}\n'
    assert read_policy(write(tmp_path, text)).notes == ()


# In a configuration


def test_inline_policy_has_the_same_keys(tmp_path: Path) -> None:
    text = FULL.replace("version: 1\n", "")
    path = tmp_path / "conf.yaml"
    path.write_text("la_aciq:\n  gate:\n" + "".join(f"    {line}\n" for line in text.splitlines()))
    spec = read_config(path)
    gate = spec.la_aciq.gate
    assert gate == read_policy(write(tmp_path, FULL))
    assert gate is not None
    assert (gate.source, gate.sha256, gate.default.line, gate.lines["max_disparity"]) == (str(path), None, 3, 4)
    assert any("la_aciq.gate.languages.no is the language no (Norwegian)" in note for note in spec.notes)


def test_configuration_names_a_policy_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, FULL)
    path = tmp_path / "sub" / "conf.yaml"
    path.write_text("la_aciq:\n  gate: {policy: ../policy.yaml}\n")
    spec = read_config(path)
    gate = spec.la_aciq.gate
    assert gate == read_policy(tmp_path / "policy.yaml")
    assert gate is not None
    assert gate.source == str(tmp_path / "policy.yaml")
    assert gate.sha256 == hashlib.sha256(FULL.encode()).hexdigest()
    assert any("policy.yaml:23: languages.no is the language no" in note for note in spec.notes)
    assert str(tmp_path) not in str(spec.as_dict())


def test_policy_from_python_has_no_lines(tmp_path: Path) -> None:
    gate = run_spec(la_aciq={"gate": {"languages": {"sw": "5%"}}}).la_aciq.gate
    assert gate is not None
    assert (gate.source, gate.lines, gate.languages["sw"].line) == (None, {}, None)
    with pytest.raises(SpecError, match=r"^the waiver for Turkish \(tr\) has no bound to widen"):
        run_spec(la_aciq={"gate": {"max_disparity": "1%", "waivers": [WAIVER]}})


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (
            "{policy: p.yaml, max_degradation: 5%}",
            "2: la_aciq.gate.max_degradation='5%' contradicts line 2: la_aciq.gate.",
        ),
        ("{version: 1, max_degradation: 5%}", "2: la_aciq.gate.version is refused: it belongs into a policy file"),
        ("{policy: absent.yaml}", None),
        ("{policy: }", "2: la_aciq.gate.policy=None is empty, not text."),
        ("{severity: warn}", " a gate without a bound judges nothing."),
        ("{relative_to: en, max_disparity: 1%}", "2: relative_to 'en' has no max_degradation to act on."),
    ],
)
def test_wrong_section_is_refused(tmp_path: Path, gate: str, message: str | None) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(f"la_aciq:\n  gate: {gate}\n")
    with pytest.raises(SpecError, match=r".") as caught:
        read_config(path)
    expected = f"{path}:{message}" if message else f"{tmp_path}/absent.yaml: no such file."
    assert str(caught.value).startswith(expected)


# Whatever is done to a policy


DATA = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
_VALUES = st.recursive(
    st.sampled_from(
        [None, True, 0, -1, 2.5, float("nan"), "", "no", "5%", "2pp", "sw", "tr", "{language}", "warn", 10**400]
    )
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(list(DATA)), inner, max_size=3)
    ),
    max_leaves=5,
)


def _holders(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(holder for item in inner for holder in _holders(item))] if isinstance(value, (dict, list)) else []


@given(st.data())
@settings(max_examples=150)
def test_a_mutated_policy_gives_a_policy_or_a_spec_error(data: st.DataObject) -> None:
    gate = copy.deepcopy(DATA)
    del gate["version"]
    for waiver in gate["waivers"]:
        waiver["expires"] = str(waiver["expires"])
    for _ in range(data.draw(st.integers(1, 3))):
        holder = data.draw(st.sampled_from([found for found in _holders(gate) if found]))
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if data.draw(st.booleans()):
            holder[key] = data.draw(_VALUES)
        else:
            del holder[key]
        if not gate:
            break
    try:
        policy = run_spec(la_aciq={"gate": gate}).la_aciq.gate
    except SpecError:
        return
    assert policy is not None
    assert explain(policy, ["en", "sw", "tr"], datetime.date(2027, 2, 1)).endswith("\n")
