"""Rows 5, 7, 9, 10, 11 and 12 of the table of faults in the `la_aciq:` section."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Read, Refused

from inc_laaciq.config import ActivationSpec, Bound, FairSpec, LaaciqSpec, Policy, Rule, TextSpec, parse_bound
from inc_laaciq.errors import SpecError


def _section(*lines: str) -> str:
    return "la_aciq:\n" + "".join(f"  {line}\n" for line in lines)


def test_defaults(read: Read) -> None:
    spec = read("la_aciq: {}").la_aciq
    assert spec == LaaciqSpec(
        mode="balanced",
        reconcile="mean",
        weights={},
        shares=None,
        languages=None,
        calibration=None,
        evaluation=None,
        gate=None,
        signed=True,
        damping=0.01,
        refine=3,
        lm_head=False,
        nan="error",
        strict_lid=False,
    )


def test_every_key_is_read(read: Read, tmp_path: Path) -> None:
    text = _section(
        "mode: fast",
        "reconcile: natural",
        "weights: {swh: 2.0, en: 0}",
        "shares: {en: 0.9, sw: 0.1}",
        "languages: [en, sw, 'no']",
        "calibration: {texts: cal, tokens_per_language: 64, seed: 7}",
        "evaluation: {texts: /abs/eval, tokens_per_language: 0, aligned: true}",
        "gate: {max_degradation: 10%, max_disparity: 0.02npb}",
        "signed: false",
        "scaling: false",
        "damping: 0.1",
        "refine: 0",
        "lm_head: true",
        "nan: keep-fp",
        "strict_lid: true",
    )
    assert read(text).la_aciq == LaaciqSpec(
        mode="fast",
        reconcile="natural",
        weights={"en": 0.0, "sw": 2.0},
        shares={"en": 0.9, "sw": 0.1},
        languages=("en", "sw", "no"),
        calibration=TextSpec(texts=str(tmp_path / "cal"), tokens_per_language=64, seed=7),
        evaluation=TextSpec(texts="/abs/eval", tokens_per_language=0, aligned=True),
        gate=Policy(default=Rule(max_degradation=parse_bound("10%")), max_disparity=Bound(value=0.02, unit="npb")),
        signed=False,
        scaling=False,
        damping=0.1,
        refine=0,
        lm_head=True,
        nan="keep-fp",
        strict_lid=True,
    )


def test_fair_is_read(read: Read) -> None:
    fair = "fair: {tune: model, steps: 7, tilt: 0, sampled: 9, labels: 0.1}"
    spec = read(_section("mode: fair", fair, "calibration: {texts: cal}")).la_aciq
    assert spec.mode == "fair"
    assert spec.fair == FairSpec(tune="model", steps=7, tilt=0.0, sampled=9, labels=0.1)
    assert read(_section("mode: fair")).la_aciq.fair == FairSpec(
        tune="auto", steps=240, tilt=4.0, sampled=120, labels=None
    )


def test_labels_change_the_digest(read: Read) -> None:
    none, zero, some = (
        read(_section("mode: fair", f"fair: {{{given}}}")) for given in ("", "labels: 0", "labels: 0.1")
    )
    assert none.digest == some.digest != zero.digest
    assert none.as_dict()["la_aciq"]["fair"]["labels"] == 0.1
    assert zero.as_dict()["la_aciq"]["fair"]["labels"] == 0
    assert "labels" not in read(_section("mode: balanced")).as_dict()["la_aciq"]["fair"]
    assert some.as_dict()["la_aciq"]["fair"]["labels"] == 0.1


def test_labels_have_a_tenth_where_nothing_is_said(read: Read) -> None:
    shares = {
        given: read(_section("mode: fair", f"fair: {{{given}}}")).la_aciq.fair.label_share
        for given in ("steps: 3", "tune: model", "labels: 0", "tune: blocks", "tune: none")
    }
    assert shares == {"steps: 3": 0.1, "tune: model": 0.1, "labels: 0": 0, "tune: blocks": 0, "tune: none": 0}


@pytest.mark.parametrize(
    ("mode", "fair", "reason"),
    [
        ("fair", "{steps: 0}", "fair.steps=0 is out of range. Allowed: 1 or more."),
        ("fair", "{steps: 1.5}", "fair.steps=1.5 is a decimal number, not a whole number."),
        ("fair", "{sampled: -1}", "fair.sampled=-1 is out of range. Allowed: 0 or more."),
        ("fair", "{tilt: -1}", "fair.tilt=-1 is negative. Allowed: 0 or more."),
        ("fair", "{tilt: .inf}", "fair.tilt=inf is not a finite number."),
        ("fair", "{tune: all}", "fair.tune='all' is not known. Allowed: auto, model, blocks, none."),
        ("fair", "{labels: 1.5}", "fair.labels=1.5 is not a fraction. Allowed: 0 to 1."),
        ("fair", "{tune: blocks, labels: 0.1}", "fair.labels=0.1 needs the model's predictions, and tune: blocks does"),
        ("fair", "{step: 3}", "fair.step is not a known key in la_aciq.fair. Did you mean 'steps'?"),
        ("fair", "3", "fair=3 must be a mapping"),
        ("fast", "{steps: 3}", "fair says how mode fair works, and the mode is fast."),
    ],
)
def test_wrong_fair_is_refused(refused: Refused, mode: str, fair: str, reason: str) -> None:
    assert refused(_section(f"mode: {mode}", f"fair: {fair}")).startswith(f"conf.yaml:3: la_aciq.{reason}")


def test_fair_is_for_weights_only(refused: Refused) -> None:
    text = "quantization: {approach: post_training_static_quant}\n" + _section("mode: fair")
    assert "la_aciq.mode='fair' is for weights only. With post_training_static_quant use balanced" in refused(text)


# Row 5: unknown keys


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("langauges: [en]", "la_aciq.langauges is not a known key in la_aciq. Did you mean 'languages'? Known keys: "),
        ("strict-lid: true", "la_aciq.strict-lid is not a known key in la_aciq. Did you mean 'strict_lid'?"),
        ("calibration: {text: a}", "la_aciq.calibration.text is not a known key in la_aciq.calibration. Did you mean"),
        (
            "gate: {max_degredation: 1%}",
            "la_aciq.gate.max_degredation is not a known key in la_aciq.gate. Did you mean",
        ),
        ("evaluation: {texts: {path: a, splits: b}}", "texts.splits is not a known key in la_aciq.evaluation.texts."),
        ("reconcile: {wieghts: {en: 1}}", "reconcile.wieghts is not a known key in la_aciq.reconcile. Did you mean"),
        ("bits: 4", "la_aciq.bits is refused: write it under quantization.model_wise.weight."),
        ("zzz: 4", "la_aciq.zzz is not a known key in la_aciq. Known keys: calibration, damping, "),
    ],
)
def test_row_05_unknown_key_is_refused_with_the_nearest(refused: Refused, line: str, reason: str) -> None:
    message = refused(_section("mode: fast", line))
    assert message.startswith("conf.yaml:3: ")
    assert reason in message


# Row 7: Norway


def test_row_07_no_is_norwegian_with_a_note(read: Read) -> None:
    spec = read(_section("languages:", "  - en", "  - no", "weights: {no: 2}"))
    assert spec.la_aciq.languages == ("en", "no")
    assert spec.la_aciq.weights == {"no": 2.0}
    assert [note.split("conf.yaml:")[1] for note in spec.notes if "Norwegian" in note] == [
        "4: la_aciq.languages[1] is the language no (Norwegian). Quote it: YAML 1.1 takes it for a boolean.",
        "5: la_aciq.weights.no is the language no (Norwegian). Quote it: YAML 1.1 takes it for a boolean.",
    ]


def test_row_07_quoted_no_needs_no_note(read: Read) -> None:
    spec = read("quantization: {approach: weight_only}\nstrategy: la_aciq\n" + _section("languages: [en, 'no']"))
    assert spec.la_aciq.languages == ("en", "no")
    assert spec.notes == ()


def test_row_07_boolean_is_no_language(refused: Refused) -> None:
    message = refused(_section("languages: [en, false]"))
    assert "la_aciq.languages[1] is the boolean false, not a language. For Norwegian write 'no', in quotes." in message


@pytest.mark.parametrize("word", ["yes", "no", "on", "OFF", "y"])
@pytest.mark.parametrize("key", ["signed", "scaling", "lm_head", "strict_lid"])
def test_row_07_other_words_are_no_booleans(refused: Refused, key: str, word: str) -> None:
    message = refused(_section(f"{key}: {word}"))
    assert message == f"conf.yaml:2: la_aciq.{key}='{word}' is not read as a boolean here. Write true or false."


# Rows 11 and 12: languages


def test_row_11_languages_become_canonical_with_a_note(read: Read) -> None:
    spec = read(_section("languages: [iw, swh_Latn, arb_Arab, zho_Hant, EN]"))
    assert spec.la_aciq.languages == ("he", "sw", "ar", "zh-Hant", "en")
    assert "la_aciq.languages[0] 'iw' is read as 'he' (Hebrew)." in spec.notes[-5]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["languages:", "  - en", "  - xx"], "conf.yaml:4: la_aciq.languages[1] 'xx' is not a known language."),
        (["weights:", "  en: 1", "  jp: 1"], "conf.yaml:4: la_aciq.weights.jp 'jp' is not a known language. Did you"),
        (["languages: [en, 7]"], "conf.yaml:2: la_aciq.languages[1] 7 is not a language tag."),
        (["languages: [en, [de]]"], "conf.yaml:2: la_aciq.languages[1] ['de'] is not a language tag."),
        (["languages: [en, null]"], "conf.yaml:2: la_aciq.languages[1] None is not a language tag."),
        (["languages: en"], "conf.yaml:2: la_aciq.languages='en' must be a list with something in it"),
        (["languages: []"], "conf.yaml:2: la_aciq.languages=[] must be a list with something in it"),
    ],
)
def test_row_11_unknown_language_is_refused_with_its_line(refused: Refused, lines: list[str], reason: str) -> None:
    assert refused(_section(*lines)).startswith(reason)


def test_row_12_language_twice_under_aliases(refused: Refused) -> None:
    message = refused(_section("languages: [zh, en, cmn]"))
    assert "la_aciq.languages language Chinese (zh) is given twice, as 'zh' and as 'cmn'." in message
    assert "is given twice, as 'sw' and as 'swh'" in refused(_section("weights: {sw: 1, swh: 2}"))


# Reconciliation


@pytest.mark.parametrize(
    ("lines", "rule", "weights", "shares"),
    [
        (["reconcile: minimax"], "minimax", {}, None),
        (["reconcile: {weights: {swh: 2.0}}"], "mean", {"sw": 2.0}, None),
        (["reconcile: {rule: cvar, weights: {swh: 2}}"], "cvar", {"sw": 2.0}, None),
        (["reconcile: cvar", "weights: {de: 0.5}"], "cvar", {"de": 0.5}, None),
        (["reconcile: natural"], "natural", {}, None),
        (["reconcile: natural", "shares: {en: 1}"], "natural", {}, {"en": 1.0}),
        (["reconcile: {shares: {en: 0.5, de: 0.5}}"], "natural", {}, {"de": 0.5, "en": 0.5}),
        (["reconcile: {rule: natural}", "weights: {de: 3}", "shares: {en: 0.5}"], "natural", {"de": 3.0}, {"en": 0.5}),
    ],
)
def test_ways_to_say_for_whom(
    read: Read, lines: list[str], rule: str, weights: dict[str, float], shares: dict[str, float] | None
) -> None:
    spec = read(_section(*lines)).la_aciq
    assert (spec.reconcile, spec.weights, spec.shares) == (rule, weights, shares)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["reconcile: max"], "2: la_aciq.reconcile='max' is not known. Did you mean 'minimax'?"),
        (["weights: {en: .nan}"], "2: la_aciq.weights.en=nan is not a finite number."),
        (["weights: {en: -1}"], "2: la_aciq.weights.en=-1 is negative. Allowed: 0 or more."),
        (["weights: {en: .inf}"], "2: la_aciq.weights.en=inf is not a finite number."),
        (["weights: {en: true}"], "2: la_aciq.weights.en=True is a boolean, not a number."),
        (["weights: {en: '2'}"], "2: la_aciq.weights.en='2' is text, not a number."),
        (["weights: {en: 1" + "0" * 99 + "}"], None),
        (["weights: {en: 0, de: 0}"], "2: la_aciq.weights gives no language a value above 0."),
        (["weights: {}"], "2: la_aciq.weights gives no language a value above 0."),
        (["weights:"], "2: la_aciq.weights=None must be a mapping of keys to values."),
        (["weights: [en]"], "2: la_aciq.weights=['en'] must be a mapping of keys to values."),
        (["reconcile: natural", "shares: {en: 60, de: 40}"], "3: la_aciq.shares sums to 100. Shares are fractions"),
        (["reconcile: natural", "shares: {en: 0.8, de: 0.4}"], "3: la_aciq.shares sums to 1.2. Shares are fractions"),
        (
            ["reconcile: mean", "shares: {en: 1}"],
            "3: la_aciq.shares contradicts line 2: la_aciq.reconcile='mean': only",
        ),
        (["shares: {en: 1}"], "2: la_aciq.shares needs reconcile: natural beside it."),
        (
            ["reconcile: {weights: {en: 1}}", "weights: {en: 1}"],
            "2: la_aciq.reconcile.weights contradicts line 3: la_aciq.weights: keep one of them.",
        ),
        (
            ["languages: [de, en]", "weights: {fr: 2}"],
            "3: la_aciq.weights.fr=2 is for a language that la_aciq.languages does not list: de, en.",
        ),
    ],
)
def test_row_10_wrong_weights_and_shares(read: Read, refused: Refused, lines: list[str], reason: str | None) -> None:
    if reason is None:
        assert read(_section(*lines)).la_aciq.weights == {"en": 1e99}
    else:
        assert refused(_section(*lines)).startswith(f"conf.yaml:{reason}")


# Row 9: contradictions across keys


def test_row_09_data_free_mode_knows_no_languages(refused: Refused, read: Read) -> None:
    message = refused(_section("mode: fast", "reconcile: minimax"))
    assert message.startswith(
        "conf.yaml:3: la_aciq.reconcile='minimax' contradicts line 2: la_aciq.mode='fast': without"
    )
    assert "weights contradicts line 2" in refused(_section("mode: fast", "weights: {en: 2}"))
    assert read(_section("mode: fast")).la_aciq.mode == "fast"
    assert read(_section("mode: fast", "reconcile: minimax", "calibration: {texts: a}")).la_aciq.reconcile == "minimax"


def test_row_09_signed_scales_need_a_symmetric_grid(refused: Refused, read: Read) -> None:
    asym = "quantization:\n  model_wise: {weight: {scheme: asym}}\n"
    message = refused(asym + _section("signed: true"))
    assert message.startswith(
        "conf.yaml:4: la_aciq.signed=True contradicts line 2: quantization.model_wise.weight.scheme"
    )
    assert not read(asym).la_aciq.signed
    assert not read(asym + _section("signed: false")).la_aciq.signed
    mixed = "quantization: {op_wise: {h: {weight: {scheme: asym}}}}\n"
    assert read(mixed + _section("signed: true")).la_aciq.signed
    by_type = "quantization: {optype_wise: {Linear: {weight: {scheme: asym}}}}\n"
    assert "la_aciq.signed=True is not possible with scheme asym" in refused(by_type + _section("signed: true"))
    static = "quantization: {approach: post_training_static_quant}\n"
    assert "la_aciq.signed=True is not possible with post_training_static" in refused(static + _section("signed: true"))


def test_scaling_is_for_weights_only_and_not_for_the_paper_formula(refused: Refused, read: Read) -> None:
    assert read(_section("mode: balanced")).la_aciq.scaling
    assert read(_section("scaling: true")).la_aciq.scaling
    assert not read(_section("scaling: false")).la_aciq.scaling
    static = "quantization: {approach: post_training_static_quant}\n"
    assert not read(static).la_aciq.scaling
    assert read(_section("mode: paper")).la_aciq.scaling  # for other modes that the gate may lead to
    for before, lines, reason in (
        (static, ["scaling: true"], "post_training_static_quant"),
        ("", ["mode: paper", "scaling: true"], "mode paper"),
    ):
        message = refused(before + _section(*lines))
        assert f"la_aciq.scaling=True is not possible with {reason}. Leave it out" in message
    assert not read(static + _section("scaling: false")).la_aciq.scaling


STATIC = "quantization: {approach: post_training_static_quant}\n"


def test_rule_of_input_ranges_is_recorded_and_is_another_configuration(read: Read) -> None:
    specs = {rule: read(STATIC + _section(f"range_reconcile: {rule}")) for rule in ("error", "max", "mean", "pooled")}
    assert {rule: spec.activation.reconcile for rule, spec in specs.items()} == {r: r for r in specs}
    assert {rule: spec.as_dict()["activation"]["reconcile"] for rule, spec in specs.items()} == {r: r for r in specs}
    assert len({spec.digest for spec in specs.values()}) == len(specs)
    default = read(STATIC + _section("mode: balanced"))
    assert default.digest == specs[ActivationSpec.reconcile].digest


@pytest.mark.parametrize(
    ("before", "rule", "reason"),
    [
        (STATIC, "minimax", "3: la_aciq.range_reconcile='minimax' is not known."),
        ("", "mean", "2: la_aciq.range_reconcile='mean' is for post_training_static_quant only: with weights alone"),
        (
            "quantization: {approach: static, model_wise: {activation: {algorithm: kl}}}\n",
            "mean",
            "3: la_aciq.range_reconcile='mean' is for activation algorithm la_aciq, and it is kl here",
        ),
    ],
)
def test_rule_of_input_ranges_where_it_has_no_meaning(refused: Refused, before: str, rule: str, reason: str) -> None:
    assert refused(before + _section(f"range_reconcile: {rule}")).startswith(f"conf.yaml:{reason}")


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_paper_mode_at_the_widths_it_fits(read: Read, bits: int) -> None:
    text = f"quantization: {{model_wise: {{weight: {{bits: {bits}}}}}}}\nla_aciq: {{mode: paper}}"
    assert read(text).la_aciq.mode == "paper"


@pytest.mark.parametrize(
    "quantization",
    [
        "{model_wise: {weight: {bits: 2}}}",
        "{model_wise: {weight: {bits: 6}}}",
        "{op_wise: {h: {weight: {bits: 8}}}}",
        "{approach: post_training_static_quant}",
    ],
)
def test_paper_mode_is_refused_elsewhere_with_the_reason(refused: Refused, quantization: str) -> None:
    message = refused(f"quantization: {quantization}\nla_aciq:\n  mode: paper\n")
    assert message.startswith("conf.yaml:3: la_aciq.mode='paper' does not work at ")
    assert "alpha = sigma (2.5 + 0.3 ln(1 + kurtosis)), fits 4 bits only" in message
    assert "27 to 54 times at 8" in message


def test_unknown_mode_is_refused(refused: Refused) -> None:
    message = refused(_section("mode: quick"))
    assert "la_aciq.mode='quick' is not known. Allowed: paper, fast, balanced, fair." in message


# Row 10: numbers


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("refine: -1", "refine=-1 is out of range. Allowed: 0..100."),
        ("refine: 2.5", "refine=2.5 is a decimal number, not a whole number."),
        ("damping: 0", "damping=0 is out of range. Allowed: above 0 and below 1."),
        ("damping: 1", "damping=1 is out of range."),
        ("damping: .nan", "damping=nan is not a finite number."),
        ("damping: -0.1", "damping=-0.1 is out of range."),
        ("damping: '0.1'", "damping='0.1' is text, not a number."),
        ("nan: skip", "nan='skip' is not known. Allowed: error, keep-fp."),
        ("gate: {max_degradation: 0.1}", "gate.max_degradation=0.1 has no unit. Write '10%' for relative perplexity"),
        ("gate: {max_degradation: -1%}", "gate.max_degradation='-1%' is negative."),
        ("gate: {max_degradation: 150%}", "gate.max_degradation='150%' is out of range. Allowed: 0% to 100%."),
        ("gate: {max_disparity: .nan}", "gate.max_disparity=nan is not a finite number"),
        ("gate: {max_disparity: .inf}", "gate.max_disparity=inf is not a finite number"),
        ("gate: {max_disparity:}", "gate.max_disparity=None is not a bound."),
        ("gate: {}", "gate has no bound, so it judges nothing."),
        ("gate:", "gate=None must be a mapping"),
        (
            "calibration: {texts: a, tokens_per_language: 0}",
            "tokens_per_language=0 is out of range. Allowed: 1 or more.",
        ),
        ("evaluation: {texts: a, tokens_per_language: -1}", "tokens_per_language=-1 is out of range."),
        ("evaluation: {texts: a, tokens_per_language: 1.5}", "tokens_per_language=1.5 is a decimal number"),
        ("evaluation: {texts: a, aligned: 1}", "evaluation.aligned=1 is a whole number, not a boolean"),
        ("calibration: {texts: a, aligned: true}", "only evaluation text can be said to be aligned"),
        ("calibration: {texts: a, seed: -1}", "calibration.seed=-1 is out of range. Allowed: 0..4294967295."),
        ("model: ''", "model='' is empty or holds a NUL character."),
        ("model: 7", "model=7 is a whole number, not text."),
    ],
)
def test_row_10_wrong_number_is_refused(refused: Refused, line: str, reason: str) -> None:
    message = refused(_section(line))
    assert message.startswith("conf.yaml:2: la_aciq.")
    assert reason in message


def test_gate_without_text_is_noted(read: Read) -> None:
    spec = read(_section("gate: {max_degradation: 10%}"))
    assert "la_aciq.gate has no la_aciq.evaluation.texts to judge on" in spec.notes[-1]


# Text


def test_paths_are_relative_to_the_file(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/someone")
    (tmp_path / "models").mkdir()
    text = "model: %s\n  calibration: {texts: ../a/b}\n  evaluation: {texts: ~/c}\n"
    spec = read("la_aciq:\n  " + text % "models")
    assert spec.model == str(tmp_path / "models")
    assert spec.la_aciq.calibration == TextSpec(texts=str(tmp_path.parent / "a" / "b"))
    assert spec.la_aciq.evaluation == TextSpec(texts="/home/of/someone/c")
    assert read("la_aciq:\n  " + text % "org/name").model == "org/name"
    assert read("la_aciq:\n  " + text % "./org/name").model == str(tmp_path / "org" / "name")
    assert read("la_aciq:\n  mode: fast\n").model is None


def test_data_set_is_read(read: Read, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    text = """
la_aciq:
  evaluation:
    texts:
      path: json
      name: {swh: sw_config, en: en_config}
      data_files: {test: [a.jsonl, b.jsonl, 'https://example.org/c.jsonl']}
      split: test
      text: sentence
      language: tag
      document: page
      revision: main
"""
    evaluation = read(text).la_aciq.evaluation
    assert evaluation is not None
    assert evaluation.texts == {
        "path": "json",
        "name": {"en": "en_config", "sw": "sw_config"},
        "data_files": {"test": [str(tmp_path / "a.jsonl"), "b.jsonl", "https://example.org/c.jsonl"]},
        "split": "test",
        "text": "sentence",
        "language": "tag",
        "document": "page",
        "revision": "main",
    }


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ("{name: a}", "calibration.texts has no path"),
        ("{path: a, trust_remote_code: true}", "texts.trust_remote_code is refused: code of others is run only if"),
        ("{path: 1}", "texts.path=1 is a whole number, not text"),
        ("{path: a, data_files: []}", "texts.data_files=[] is a list, not text"),
        ("{path: a, data_files: {x: 3}}", "texts.data_files is a whole number, not text"),
        ("{path: a, name: {xx: b}}", "texts.name 'xx' is not a known language"),
        ("{path: a, name: {en: 3}}", "calibration.texts.name.en=3 is a whole number, not text"),
        ("[a]", "calibration.texts=['a'] is a list, not text"),
        ("''", "calibration.texts='' is empty"),
        ('"a\\0b"', "is empty or holds a NUL character"),
    ],
)
def test_wrong_texts_are_refused(refused: Refused, texts: str, reason: str) -> None:
    assert reason in refused(_section(f"calibration: {{texts: {texts}}}"))


def test_text_section_without_texts_is_refused(refused: Refused) -> None:
    assert "la_aciq.calibration has no texts" in refused(_section("calibration: {seed: 1}"))
    assert "la_aciq.calibration=None must be a mapping" in refused(_section("calibration:"))


# What Python code can make


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mode": "fairest"}, "LaaciqSpec.mode='fairest' is not known"),
        ({"reconcile": "max"}, "LaaciqSpec.reconcile='max' is not known"),
        ({"weights": {"swh": 1.0}}, "LaaciqSpec.weights=.* holds 'swh', which is not canonical. Write 'sw'."),
        ({"weights": {"sw": 0.0}}, "gives no language a weight above 0"),
        ({"weights": {"en": 1.0, "sw": -1.0}}, "is negative"),
        ({"languages": ("zh", "zh-CN")}, "is given twice"),
        ({"shares": {"en": 1.0}}, "has a meaning for reconcile='natural' only, not for 'mean'"),
        ({"shares": {"en": 0.8, "de": 0.5}, "reconcile": "natural"}, "sums to 1.3"),
        ({"damping": 1.0}, "LaaciqSpec.damping=1.0 is out of range"),
        ({"signed": 1}, "LaaciqSpec.signed=1 is a whole number, not a boolean"),
        ({"scaling": 1}, "LaaciqSpec.scaling=1 is a whole number, not a boolean"),
        ({"nan": "no"}, "LaaciqSpec.nan='no' is not known"),
    ],
)
def test_wrong_spec_cannot_be_made(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        LaaciqSpec(**settings)  # type: ignore[arg-type]


def test_gate_and_text_cannot_be_made_wrong() -> None:
    with pytest.raises(SpecError, match="a gate without a bound judges nothing"):
        Policy()
    with pytest.raises(SpecError, match=r"TextSpec\.tokens_per_language=-1 is out of range"):
        TextSpec(texts="a", tokens_per_language=-1)
