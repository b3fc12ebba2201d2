"""A gate document with everything in it: 20 languages of many scripts, tasks, waivers, trials and a heat map."""

from __future__ import annotations

import math
from typing import Any

#: Tag, name, script, family, degradation in nats per byte, verdict.
LANGUAGES = (
    ("ar", "Arabic", "Arab", "Afro-Asiatic", 0.0062, "PASS"),
    ("bn", "Bengali", "Beng", "Indo-European", 0.0049, "PASS"),
    ("de", "German", "Latn", "Indo-European", 0.0027, "PASS"),
    ("el", "Greek", "Grek", "Indo-European", 0.0041, "PASS"),
    ("en", "English", "Latn", "Indo-European", 0.0021, "PASS"),
    ("fa", "Persian", "Arab", "Indo-European", 0.0187, "FAIL"),
    ("fi", "Finnish", "Latn", "Uralic", -0.0004, "PASS"),
    ("he", "Hebrew", "Hebr", "Afro-Asiatic", 0.0112, "INCONCLUSIVE"),
    ("hi", "Hindi", "Deva", "Indo-European", 0.0044, "PASS"),
    ("ja", "Japanese", "Jpan", "Japonic", 0.0038, "PASS"),
    ("km", "Khmer", "Khmr", "Austroasiatic", 0.0058, "PASS"),
    ("ko", "Korean", "Kore", "Koreanic", 0.0047, "PASS"),
    ("ru", "Russian", "Cyrl", "Indo-European", 0.0033, "PASS"),
    ("sw", "Swahili", "Latn", "Niger-Congo", 0.0151, "PASS"),
    ("th", "Thai", "Thai", "Kra-Dai", 0.0051, "PASS"),
    ("tr", "Turkish", "Latn", "Turkic", 0.0213, "FAIL"),
    ("ur", "Urdu", "Arab", "Indo-European", 0.0055, "PASS"),
    ("vi", "Vietnamese", "Latn", "Austroasiatic", 0.0029, "PASS"),
    ("yo", "Yoruba", "Latn", "Niger-Congo", None, "NOT-RUN"),
    ("zh", "Chinese", "Hans", "Sino-Tibetan", 0.0035, "PASS"),
)
RIGHT_TO_LEFT = ("ar", "fa", "he", "ur")
WAIVED, EXPIRED, MISSING, OPEN = "sw", "tr", "yo", "he"
TASK = "belebele_{language}"
LIMIT = 0.05
SENTENCES = {
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "fa": "تمام افراد بشر آزاد به دنیا می\u200cآیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "he": "כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "ur": "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
}


def gate_language(name: str, degradation: float, **more: Any) -> dict[str, Any]:
    """Figures of one language that agree with each other."""
    error, baseline, tokens, n_bytes = 0.0013, 0.8 + 0.01 * len(name), 4096, 17123
    loss, per_token = baseline + degradation, n_bytes / tokens
    return {
        "name": name,
        "script": "Latn",
        "family": "Turkic",
        "direction": "ltr",
        "verdict": "PASS",
        "waived": False,
        "groups": [],
        "loss": loss,
        "baseline_loss": baseline,
        "degradation": degradation,
        "standard_error": error,
        "low": degradation - 1.96 * error,
        "high": degradation + 1.96 * error,
        "relative_perplexity": math.expm1(degradation * per_token),
        "relative_low": math.expm1((degradation - 1.96 * error) * per_token),
        "relative_high": math.expm1((degradation + 1.96 * error) * per_token),
        "perplexity": math.exp(loss * per_token),
        "baseline_perplexity": math.exp(baseline * per_token),
        "bits_per_byte": loss / math.log(2),
        "baseline_bits_per_byte": baseline / math.log(2),
        "per_sentence": degradation * n_bytes / 120,
        "sentences": 120,
        "tokens": tokens,
        "bytes": n_bytes,
        "documents": 12,
        "fertility": tokens / n_bytes,
        "flip_rate": 0.031,
        "kl": 0.0042,
        "detectable": 0.0032,
    } | more


def check(kind: str, tag: str | None, verdict: str, **more: Any) -> dict[str, Any]:
    """One entry of `checks`; a maximal degradation of 5% unless told otherwise."""
    return {
        "id": f"{kind}/{tag or 'all'}",
        "kind": kind,
        "language": tag,
        "group": None,
        "task": None,
        "limit": "5%",
        "limit_value": LIMIT,
        "unit": "%",
        "value": None,
        "lower": None,
        "upper": None,
        "p_value": None,
        "detectable": None,
        "verdict": verdict,
        "severity": "error",
        "reason": f"{verdict} {tag or 'all'}: {kind} against 5%",
        "source": "default",
        "line": 3,
        "waiver": None,
    } | more


def waiver(tag: str, expires: str, *, is_expired: bool) -> dict[str, Any]:
    return {
        "language": tag,
        "limit": "10%",
        "owner": "mt-team",
        "reason": "the next release has more calibration text",
        "ticket": f"LANG-{tag}",
        "expires": expires,
        "is_expired": is_expired,
    }


def gate_document(**more: Any) -> dict[str, Any]:
    """Turkish and Persian fail, Swahili passes by a waiver, Hebrew is open, Yoruba has no text."""
    languages: dict[str, Any] = {}
    checks = []
    in_force, expired = waiver(WAIVED, "2099-01-31", is_expired=False), waiver(EXPIRED, "2020-01-31", is_expired=True)
    for tag, name, script, family, degradation, verdict in LANGUAGES:
        direction = "rtl" if tag in RIGHT_TO_LEFT else "ltr"
        groups = ["low-resource"] if tag in ("km", "sw", "ur", "yo") else []
        facts = {"script": script, "family": family, "direction": direction, "verdict": verdict, "groups": groups}
        if degradation is None:
            languages[tag] = {"name": name, **facts, "waived": False, "missing": "no text was found"}
            checks.append(check("presence", tag, verdict, limit=None, limit_value=None, unit=None,
                                reason=f"NOT-RUN {tag}: no text was found"))  # fmt: skip
            continue
        entry = languages[tag] = gate_language(name, degradation, **facts, waived=tag == WAIVED)
        waived = {"limit": "10%", "limit_value": 0.1, "source": "waiver", "line": 31,
                  "waiver": {**{k: v for k, v in in_force.items() if k not in ("language", "limit", "is_expired")},
                             "line": 31}}  # fmt: skip
        checks.append(
            check(
                "max_degradation",
                tag,
                verdict,
                value=entry["relative_perplexity"],
                lower=entry["relative_low"],
                upper=entry["relative_high"],
                p_value=0.0004 if verdict == "FAIL" else 0.41,
                detectable=0.014,
                reason=f"{verdict} {tag}: relative perplexity {100 * entry['relative_perplexity']:+.4g}% against 5%",
                **(waived if tag == WAIVED else {}),
            )
        )
    checks += [
        check("max_disparity", None, "FAIL", limit="0.01npb", limit_value=0.01, unit="npb", value=0.0217,
              lower=0.0181, upper=0.0252, line=5, reason="FAIL: the disparity of 0.0217npb is above 0.01npb"),
        check("max_disparity", None, "PASS", id="max_disparity/low-resource", group="low-resource", limit="0.02npb",
              limit_value=0.02, unit="npb", value=0.0066, lower=0.004, upper=0.0092, line=12, severity="warn"),
        check("waiver", EXPIRED, "FAIL", limit="10%", limit_value=0.1, line=36,
              reason="FAIL tr: the waiver LANG-tr expired on 2020-01-31"),
    ]  # fmt: skip
    for tag, value, verdict in (("de", 0.004, "PASS"), ("ur", 0.031, "INCONCLUSIVE"), ("fa", 0.061, "FAIL")):
        checks.append(
            check(f"max_degradation:{TASK}", tag, verdict, task=TASK, limit="2pp", limit_value=0.02, unit="pp",
                  value=value, lower=value - 0.017, upper=value + 0.017, detectable=0.026, line=41,
                  severity="warn" if tag == "fa" else "error",
                  reason=f"{verdict} {tag}: {TASK} lost {100 * value:.3g} points against 2pp")
        )  # fmt: skip
    finite = [entry for entry in languages.values() if "missing" not in entry]
    return {
        "schema": "inc-laaciq/gate/1",
        "meta": {"time": "2026-11-22T06:40:00+00:00", "versions": {"torch": "2.13.0"}, "threads": 2},
        "candidate": {"name": "tiny-bloom-w4", "id": "1a" * 32, "model_sha256": "2b" * 32},
        "baseline": {"name": "tiny-bloom", "id": "3c" * 32, "model_sha256": None},
        "previous": None,
        "texts": {"source": "texts/eval", "sha256": "ee" * 32, "tokens_per_language": 0, "seed": 0},
        "tokenizer": {"sha256": "cd" * 32},
        "policy": {
            "source": "ci/policy.yaml",
            "sha256": "4d" * 32,
            "confidence": 0.95,
            "text": "max_degradation 5% (line 3)\nmax_disparity 0.01npb (line 5)",
        },
        "signature": "inc-laaciq 0.1.0 | gate/1 | candidate 1a1a1a1a1a1a | baseline 3c3c3c3c3c3c | seed 0",
        "verdict": "FAIL",
        "reasons": [
            "FAIL tr: relative perplexity +9.31% against 5%",
            "FAIL fa: relative perplexity +8.13% against 5%",
            "FAIL tr: the waiver LANG-tr expired on 2020-01-31",
            "FAIL: the disparity of 0.0217npb is above 0.01npb",
            "NOT-RUN yo: no text was found",
        ],
        "languages": languages,
        "worst_language": "tr",
        "worst": {key: languages["tr"][key] for key in ("degradation", "low", "high")},
        "disparity": 0.0217,
        "disparity_low": 0.0174,
        "disparity_high": 0.0259,
        "mean_degradation": sum(entry["degradation"] for entry in finite) / len(finite),
        "mean_standard_error": 0.0003,
        "expected_disparity": 0.0044,
        "checks": checks,
        "waivers": [in_force, expired],
        "sentences": {
            tag: [{"text": text, "degradation": 0.09, "index": 17}, {"degradation": 0.07, "index": 3}]
            for tag, text in SENTENCES.items()
        },
        "layers": [{"name": "h.0.dense", "bits": 4, "group_size": 64, "scheme": "sym", "n_weights": 16384}],
        "heat": {
            "layers": [f"h.{layer}.{part}" for layer in range(4) for part in ("attention", "mlp")],
            "languages": [tag for tag, *_ in LANGUAGES if tag != MISSING],
            "values": [
                [round(((7 * row + 3 * column) % 23) / 4 - 0.5, 2) for column in range(len(LANGUAGES) - 1)]
                for row in range(8)
            ],
            "unit": "mnat/B",
        },
        "trials": [
            {"number": 1, "description": "mode fast, 4 bits", "verdict": "FAIL", "reasons": ["FAIL tr", "FAIL fa"],
             "worst_language": "tr", "worst": 0.0312, "disparity": 0.0331, "bytes": 2_100_000},
            {"number": 2, "description": "mode balanced, 4 bits", "verdict": "FAIL", "reasons": ["FAIL tr"],
             "worst_language": "tr", "worst": 0.0213, "disparity": 0.0217, "bytes": 2_310_000},
        ],
        "notes": ["fi: 3 damaged lines were skipped."],
    } | more  # fmt: skip


def hostile_gate(text: str) -> dict[str, Any]:
    """The same document with `text` wherever a text of others can stand, as value and as key."""
    document = gate_document(reasons=[text], notes=[text], signature=text)
    document["meta"] = {"time": text, "versions": {text: text}, "threads": text}
    for side in ("candidate", "baseline", "previous"):
        document[side] = {"name": text, "id": text, "model_sha256": text}
    document["texts"] = {"source": text, "sha256": text, "seed": text}
    document["tokenizer"] = {"sha256": text}
    document["policy"] = {"source": text, "sha256": text, "confidence": 0.95, "text": text}
    strange = {"name": text, "script": text, "family": text, "direction": text, "groups": [text]}
    document["languages"] = {
        "tr": gate_language("Turkish", 0.01, verdict="FAIL") | strange,
        text: gate_language("Turkish", 0.02, verdict="PASS", waived=True) | strange,
        f"{text}2": {"missing": text, "verdict": "NOT-RUN"} | strange,
        "sw": gate_language("Turkish", 0.001, verdict=text) | strange,
    }
    document["worst_language"] = text
    names = ("owner", "reason", "ticket", "expires")
    signed = dict.fromkeys(names, text)
    whole = {"language": text, "limit": text, **signed}
    document["waivers"] = [whole | {"is_expired": False}, whole | {"language": "tr", "is_expired": True}]
    odd = {"id": text, "reason": text, "source": text, "limit": text}
    document["checks"] = [
        check("max_degradation", "tr", "FAIL", value=0.1, lower=0.05, upper=0.2, **odd),
        check("max_degradation", text, "PASS", **odd) | {"waiver": signed | {"line": 3}},
        check("max_degradation", f"{text}2", "NOT-RUN", **odd),
        check("max_disparity", None, "INCONCLUSIVE", **odd) | {"group": text},
        check(f"max_degradation:{text}", "tr", "FAIL", **odd) | {"task": text, "severity": "warn"},
        check(text, "tr", text, **odd) | {"unit": text, "severity": text},
    ]
    document["sentences"] = {"tr": [{"text": text, "degradation": 0.1, "index": 1}]}
    document["layers"] = [{"name": text, "float": text}]
    document["heat"] = {"layers": [text], "languages": [text, "tr"], "values": [[1.0, -0.5]], "unit": text}
    document["trials"] = [
        {"number": 1, "description": text, "verdict": text, "reasons": [text], "worst_language": text, "worst": 0.1}
    ]
    return document
