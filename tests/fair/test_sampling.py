"""Text that the model goes on with: where it begins, that it is the model's own, and that it is the same again."""

from __future__ import annotations

import torch

from inc_laaciq.fair import sampling
from inc_laaciq.fair.sampling import PROMPT, sample_rows
from inc_laaciq.fair.tuning import Tuner, TuneSpec
from inc_laaciq.layerwise import quantize_layers

VOCABULARY = 97


def rows_of(batches):
    return {tag: [row[None] for group in part for row in group] for tag, part in batches.items()}


def test_rows_begin_as_text_of_their_language_does_and_are_as_long(model, batches):
    rows = rows_of(batches)
    found = sample_rows(model, rows, 5, seed=0)
    assert {tag: [row.shape for row in group] for tag, group in found.items()} == {
        tag: 5 * [torch.Size([1, 24])] for tag in rows
    }
    for tag, group in found.items():
        windows = [
            row[0, start : start + PROMPT].tolist() for row in rows[tag] for start in range(row.shape[1] - PROMPT + 1)
        ]
        assert all(row[0, :PROMPT].tolist() in windows for row in group)


def test_every_token_is_drawn_from_the_models_own_probabilities(model, batches, monkeypatch):
    """Independent oracle: the whole row through the model at once, without cached keys and values."""
    asked = []

    def most_likely(probabilities, _):
        asked.append(probabilities)
        return probabilities.argmax(-1, keepdim=True)

    monkeypatch.setattr(sampling, "draw", most_likely)
    model.config.eos_token_id = None
    (row,) = sample_rows(model, {"en": rows_of(batches)["en"]}, 1, seed=0)["en"]
    with torch.no_grad():
        expected = model(input_ids=row, use_cache=False).logits[0].softmax(-1)
    assert len(asked) == 24 - PROMPT
    torch.testing.assert_close(torch.cat(asked), expected[PROMPT - 1 : -1], rtol=1e-3, atol=1e-5)
    assert row[0, PROMPT:].tolist() == expected[PROMPT - 1 : -1].argmax(-1).tolist()


def test_a_row_goes_on_to_its_end(bloom, batches):
    rows = rows_of(batches)
    bloom.config.eos_token_id = list(range(2, VOCABULARY))
    found = torch.cat(sample_rows(bloom, rows, 8, seed=0)["sw"])[:, PROMPT:]
    assert set(found.flatten().tolist()) == {0, 1}


def test_tokens_are_drawn_as_often_as_they_are_likely():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3, 0.0]).repeat(20_000, 1)
    chance = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = sampling.draw(probabilities, chance)
    assert drawn.shape == (20_000, 1)
    shares = torch.bincount(drawn.flatten(), minlength=5) / 20_000
    torch.testing.assert_close(shares, probabilities[0], atol=0.015, rtol=0)
    assert shares[1] == shares[4] == 0


def test_what_a_language_gets_does_not_depend_on_the_others(bloom, batches):
    rows = rows_of(batches)
    alone = sample_rows(bloom, {"sw": rows["sw"]}, 3, seed=0)["sw"]
    assert torch.equal(torch.cat(alone), torch.cat(sample_rows(bloom, rows, 3, seed=0)["sw"]))


def test_a_model_that_keeps_nothing_gives_no_rows(bloom, batches, caplog):
    bloom.config.use_cache = False
    bloom.register_forward_hook(lambda _m, _a, output: setattr(output, "past_key_values", None))
    with caplog.at_level("INFO", logger="inc_laaciq"):  # which a command of another test may have set
        assert sample_rows(bloom, rows_of(batches), 2, seed=0) == {"en": [], "sw": []}
    assert "tuned on calibration text alone" in caplog.text


def test_a_seed_gives_the_same_rows_and_another_one_others(bloom, batches):
    rows = rows_of(batches)
    first, again, other = (sample_rows(bloom, rows, 3, seed=seed) for seed in (0, 0, 1))
    for tag in rows:
        assert torch.equal(torch.cat(first[tag]), torch.cat(again[tag]))
        assert not torch.equal(torch.cat(first[tag]), torch.cat(other[tag]))


def test_small_batches_give_as_many_rows(bloom, batches, monkeypatch):
    monkeypatch.setattr(sampling, "_BYTES", 1)
    found = sample_rows(bloom, rows_of(batches), 3, seed=0)
    assert [len(group) for group in found.values()] == [3, 3]


def test_a_language_of_short_rows_gets_none(bloom, batches):
    rows = {**rows_of(batches), "yo": [torch.zeros(1, PROMPT, dtype=torch.long)], "zu": []}
    found = sample_rows(bloom, rows, 2, seed=0)
    assert {tag: len(group) for tag, group in found.items()} == {"en": 2, "sw": 2, "yo": 0, "zu": 0}


def test_rows_on_which_the_model_is_broken_are_left_out(bloom, batches, caplog):
    def broken(_module, given, output):
        output.logits[(given["input_ids"] >= 60).any(1)] = float("nan")

    bloom.register_forward_hook(lambda module, _, given, output: broken(module, given, output), with_kwargs=True)
    found = sample_rows(bloom, rows_of(batches), 8, seed=0)
    assert found["sw"] == []  # with 16 tokens of 40 to 96 in front
    assert all(bool((row[:, :-1] < 60).all()) for row in found["en"])
    assert "sw: in 8 of 8 sampled rows the float model itself is broken" in caplog.text


def test_held_out_rows_are_not_what_more_is_made_of():
    given = {}

    def more(training):
        given.update({tag: list(group) for tag, group in training.items()})
        return {"en": ["new"]}

    rows = {"en": [f"en {number}" for number in range(10)], "sw": ["sw 0"]}
    tuner = Tuner({}, lambda _, __: None, rows, {"en": 1.0, "sw": 1.0}, TuneSpec(), more=more)
    assert len(given["en"]) == 8
    assert not set(given["en"]) & set(tuner._held_out["en"])
    assert tuner._training["en"] == [*given["en"], "new"]
    assert tuner._training["sw"] == ["sw 0"]


def test_it_is_tuned_on_as_the_configuration_says(bloom, layers_of, batches, settings, monkeypatch):
    from inc_laaciq.fair import solve

    asked = []

    def spy(model, rows, n, **how):
        asked.append(n)
        return sample_rows(model, rows, n, **how)

    monkeypatch.setattr(solve, "sample_rows", spy)
    own, none = (
        quantize_layers(bloom, layers_of(bloom), batches, settings(steps=20, sampled=number)) for number in (9, 0)
    )
    assert asked == [9]
    quantize_layers(bloom, layers_of(bloom), batches, settings(steps=3, sampled=9))
    assert asked == [9, 3]  # a row for each step is all that can be seen
    assert [solution.tuning["sampled"] for solution in (own, none)] == [9, 0]
    assert own.tuning["history"][0]["losses"] == none.tuning["history"][0]["losses"]
    assert own.tuning["history"][-1]["losses"] != none.tuning["history"][-1]["losses"]
