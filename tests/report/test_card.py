"""The model card."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rather.report.card import model_card

MakeRun = Callable[..., Path]


def edit(folder: Path, **changes: Any) -> Path:
    """Change parts of the run's record."""
    record = copy.deepcopy(json.loads((folder / "run.json").read_text()))
    record.update(changes)
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def matter(card: str) -> dict[str, Any]:
    head, _, _ = card.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(head)


def test_card_of_a_finished_run(make_run: MakeRun) -> None:
    card = model_card(make_run())
    assert matter(card) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rather", "preference-optimization", "rdpo"],
    }
    assert "| Ranking accuracy (implicit reward) | 50.0% (50.0 to 50.0%) | 73.5% (67.0 to 79.2%) |" in card
    assert "```sh\nrather train --model smollm2-135m" in card
    assert "((1 - eps) l(z) - eps l(-z)) / (1 - 2 eps)" in card
    assert "AutoModelForCausalLM.from_pretrained" in card
    assert "license" not in card.lower()


def test_hub_names_enter_the_front_matter_and_paths_do_not(make_run: MakeRun) -> None:
    data = {"train": {"path": ["trl-lib/ultrafeedback_binarized", "./pairs.jsonl"]}}
    folder = edit(make_run(), model={"name": "HuggingFaceTB/SmolLM2-135M"}, data=data)
    found = matter(model_card(folder))
    assert found["base_model"] == "HuggingFaceTB/SmolLM2-135M"
    assert found["datasets"] == ["trl-lib/ultrafeedback_binarized"]
    folder = edit(folder, model={"name": str(folder)}, data={})
    assert "base_model" not in matter(model_card(folder))


def test_lora_runs_name_peft_and_how_to_load_them(make_run: MakeRun) -> None:
    card = model_card(make_run(config="policy:\n  model: m\n  lora: true\n"))
    assert matter(card)["library_name"] == "peft"
    assert "lora" in matter(card)["tags"]
    assert "AutoPeftModelForCausalLM" in card


@pytest.mark.parametrize(
    ("file", "loaded"), [("model_index.json", "from_pretrained"), ("pipeline.json", "load_lora_weights")]
)
def test_image_runs_name_diffusers(make_run: MakeRun, file: str, loaded: str) -> None:
    folder = edit(make_run(), model={"name": "image:owner/name", "kind": "flow"})
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / file).write_text("{}")
    card = model_card(folder)
    found = matter(card)
    assert (found["library_name"], found["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert found["base_model"] == "owner/name"
    assert loaded in card


def test_other_models_are_rathers_own(make_run: MakeRun) -> None:
    found = matter(model_card(edit(make_run(), model={"name": "m", "kind": "diffusion"})))
    assert found["library_name"] == "rather"
    assert "pipeline_tag" not in found


def test_citation_is_there_when_the_method_has_one(make_run: MakeRun) -> None:
    folder = make_run()
    assert "## Citation" not in model_card(folder)
    edit(folder, method={"name": "dpo", "citation": "@inproceedings{x, title={A ``quoted`` ```title```}}"})
    card = model_card(folder)
    assert "````bibtex\n@inproceedings{x" in card


@pytest.mark.parametrize("missing", ["run", "evaluation", "metrics"])
def test_card_before_the_run_is_complete(make_run: MakeRun, missing: str) -> None:
    card = model_card(make_run(**{missing: None}))
    assert card.startswith("---\n")
    assert ("No held-out evaluation was made." in card) is (missing == "evaluation")


def test_table_cells_cannot_break_the_table(make_run: MakeRun) -> None:
    card = model_card(make_run(evaluation={"before": {"a|b": 1.0}, "after": {"a|b": 2.0}}))
    assert "| a\\|b | 1 | 2 |" in card
