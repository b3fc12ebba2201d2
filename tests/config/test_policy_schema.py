"""The JSON Schema of a policy file says what the reader reads."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.config import parse_bound, policy_file, read_policy
from inc_laaciq.config.bounds import LIKELIHOOD_UNITS, TASK_UNITS, Unit
from inc_laaciq.config.policy import CONSEQUENCES, SEVERITIES
from inc_laaciq.config.strict_yaml import read_document
from inc_laaciq.errors import SpecError

SCHEMA: dict[str, Any] = json.loads(
    (files("inc_laaciq") / "schemas" / "policy.schema.json").read_text(encoding="utf-8")
)
PRESET = Path(__file__).parents[2] / "yaml" / "gate_policy.yaml"
PROPERTIES = SCHEMA["properties"]


@pytest.mark.parametrize(
    ("schema", "keys"),
    [
        (SCHEMA, policy_file.FILE_KEYS),
        (PROPERTIES["groups"]["items"], policy_file.GROUP_KEYS),
        (PROPERTIES["languages"]["additionalProperties"]["oneOf"][1], policy_file.LANGUAGE_KEYS),
        (PROPERTIES["waivers"]["items"], policy_file.WAIVER_KEYS),
        (PROPERTIES["tasks"]["additionalProperties"], policy_file.TASK_KEYS),
    ],
    ids=["file", "group", "language", "waiver", "task"],
)
def test_schema_and_reader_have_the_same_keys(schema: dict[str, Any], keys: Any) -> None:
    assert set(schema["properties"]) == set(keys.used)
    assert schema["additionalProperties"] is False


def test_schema_and_reader_have_the_same_words() -> None:
    assert tuple(SCHEMA["$defs"]["severity"]["enum"]) == SEVERITIES
    for key in ("inconclusive", "not_run"):
        assert tuple(PROPERTIES[key]["enum"]) == CONSEQUENCES
    assert PROPERTIES["version"] == {"const": 1, "description": "Version of this format."}
    assert set(PROPERTIES["waivers"]["items"]["required"]) == set(policy_file.WAIVER_KEYS.used)


def test_every_key_is_described() -> None:
    def described(schema: dict[str, Any]) -> bool:
        target = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else {}
        return "description" in schema or "description" in target

    assert [key for key, schema in PROPERTIES.items() if not described(schema)] == []


@given(
    st.sampled_from(["5", "0.5", ".5", "1e-3", "1E2", "+1", "-1", "", "5,0", "1 0", "٣", "nan", "1e9999"]),
    st.sampled_from(["", " ", "\n"]),
    st.sampled_from([*get_args(Unit), "", "p", "PP", "npbs"]),
)
def test_schema_and_reader_take_the_same_bounds(number: str, space: str, unit: str) -> None:
    text = f"{space}{number}{space}{unit}{space}"
    patterns = [SCHEMA["$defs"][kind]["pattern"] for kind in ("likelihood_bound", "task_bound")]
    in_schema = [bool(re.search(pattern.replace("$", r"\Z"), text)) for pattern in patterns]
    assert in_schema == [_reads(text, LIKELIHOOD_UNITS), _reads(text, TASK_UNITS)]


def _reads(text: str, units: tuple[Unit, ...]) -> bool:
    """Whether the reader takes a bound of one of the units, or minds its size only, which no pattern can tell."""
    try:
        return parse_bound(text).unit in units
    except SpecError as error:
        return "out of range" in str(error) and text.strip().endswith(units)


def test_schema_takes_the_preset_and_refuses_mistakes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    data = read_document(PRESET).data
    assert read_policy(PRESET).default.max_degradation == parse_bound("5%")
    assert list(validator.iter_errors(data)) == []
    for broken in (
        {**data, "version": 2},
        {**data, "confidence": 0.5},
        {**data, "max_disparity": "2pp"},
        {**data, "extra": 1},
        {**data, "languages": {"sw": {}}},
        {**data, "groups": [{"name": "a"}]},
        {**data, "waivers": [{**data["waivers"][0], "reason": " "}]},
        {**data, "tasks": {"belebele": {"metric": "acc"}}},
        {**data, "tasks": {"a_{language}": {"metric": "acc,none"}}},
    ):
        assert len(list(validator.iter_errors(broken))) == 1
