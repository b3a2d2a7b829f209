"""Settings from files, flags and keywords; every mistake says where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from rather.errors import UserError
from rather.methods.registry import methods
from rather.training import settings
from rather.training.config import NEUTRAL, TrainConfig
from rather.training.settings import from_flags, from_keywords, from_yaml, resolve

NEEDED = {"model": "m", "data": "d"}


def yaml_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "model: m\ndata: d\nbeta: 0.3\nbatch_size: 4\nlabels:\n  flip_rate: 0.2\n")
    config = resolve(from_flags({"batch_size": "8"}, ["--labels.flip-rate", "0.1"]).over(from_yaml(path)))
    assert config.batch_size == 8
    assert config.method_options["beta"] == 0.3
    assert config.method_options["labels.flip_rate"] == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "method: rdpo\nflip_rate: 0.3\nbeta: 2.0",
        "method:\n  name: rdpo\n  flip_rate: 0.3\n  beta: 2.0",
        "method: robust\nmethod_options: {flip_rate: 0.3, beta: 2.0}",
    ],
)
def test_flat_and_nested_mean_the_same(tmp_path: Path, text: str) -> None:
    config = resolve(from_yaml(yaml_file(tmp_path, f"{text}\nmodel: m\ndata: d\n")))
    assert config.method == "rdpo"
    assert (config.method_options["flip_rate"], config.method_options["beta"]) == (0.3, 2.0)


@pytest.mark.parametrize("name", sorted(methods()))
def test_what_is_saved_loads_back(tmp_path: Path, name: str) -> None:
    config = resolve(from_keywords({**NEEDED, "method": name, "learning_rate": 3e-6}))
    again = resolve(from_yaml(yaml_file(tmp_path, settings.dump(config))))
    assert again == config


@pytest.mark.parametrize("name", sorted(methods()))
def test_no_option_of_a_method_is_hidden_by_a_setting(name: str) -> None:
    assert not set(methods()[name].option_names()) & set(TrainConfig.model_fields)


def test_neutral_settings_exist() -> None:
    assert set(TrainConfig.model_fields) >= NEUTRAL


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("model: m\ndata: d\nlerning_rate: 1e-5", 3, "did you mean 'learning_rate'"),
        ("model: m\ndata: d\nlabels:\n  flip_rat: 0.1", 4, "did you mean 'labels.flip_rate'"),
        ("model: m\nbatch_size: many\ndata: d", 2, "valid integer"),
        ("model: m\ndata: d\nbatch_size: 0", 3, "greater than or equal to 1"),
        ("model: m\ndata: d\nbeta: -1", 3, "greater than 0"),
        ("model: m\ndata: d\nmethod: dop", 3, "did you mean 'dpo'"),
        ("model: m\ndata: d\nmodel: n", 3, "given twice, first in line 1"),
        ("model: m\ndata: [d\nseed: 1", 3, "not valid YAML"),
        ("model: m\ndata: d\nreference: frosen", 3, "'frozen'"),
        ("model: m\ndata: d\nlr_schedule: cosin", 3, "'cosine'"),
        ("model: m\ndata: d\nsave_steps: sometimes", 3, "'auto'"),
        ("- model", 1, "not settings"),
    ],
)
def test_a_mistake_in_the_file_names_the_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = yaml_file(tmp_path, text)
    with pytest.raises(UserError) as raised:
        resolve(from_yaml(path))
    assert f"{path}:{line}" in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--bet", "0.2"], "did you mean 'beta'"),
        (["--beta"], "has no value"),
        (["--beta", "high"], "valid number"),
        (["--labels.flip_rate", "0.7"], "less than 0.5"),
        (["beta", "0.2"], "unexpected argument 'beta'"),
        (["--labels.smoothing", "0.1", "--labels.flip_rate", "0.1"], "not both"),
    ],
)
def test_a_mistake_in_the_flags_names_the_flag(extra: list[str], words: str) -> None:
    with pytest.raises(UserError, match="--") as raised:
        resolve(from_flags(NEEDED, extra))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"early_stopping_patience": 2, "eval_steps": 0}, "needs evaluations"),
        ({"reference": "adapters"}, "needs lora"),
        ({"report_to": "tensorbord"}, "tensorboard, wandb and trackio"),
        ({"data": None}, "data"),
    ],
)
def test_settings_that_do_not_go_together(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve(from_keywords({**NEEDED, **options}))
