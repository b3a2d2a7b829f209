"""``rather fit-reward`` and ``rather sample`` as a user meets them, on tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from command import Call
from rather import rewards
from rather.cli.fit_reward import model_name
from rather.errors import UserError
from tiny import tiny_encoder, tiny_model

WORDS = ["red", "green", "blue", "good", "river", "plan", "story", "poem", "letter", "friend", "city", "water"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "prompt": f"Please write about {WORDS[i % 12]} {i}",
            "chosen": f"Sure, here is {WORDS[i % 7]} and {WORDS[i % 5]}.",
            "rejected": f"No {WORDS[i % 11]}.",
        }
        for i in range(24)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SMALL = ("--batch-size", 6, "--max-steps", 4, "--precision", "fp32")


def test_a_reward_model_from_flags(encoder: str, data: Path, rather: Call, tmp_path: Path) -> None:
    code, _, told = rather(
        "fit-reward", "--model", encoder, "--data", data, "--output", "run", "--labels.flip_rate", "0.1", *SMALL
    )
    assert code == 0, told
    run = tmp_path / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["method"]["name"] == "bt" and record["method"]["options"]["labels.flip_rate"] == 0.1
    assert record["reference"] == "none" and record["model"]["name"] == f"reward:{encoder}"
    assert "learning_rate: 0.0002" in (run / "config.yaml").read_text()
    assert json.loads((run / "model" / "rather.json").read_text())["method"] == "bt"
    assert rewards.load(run).score("Hi", ["Sure.", "No."]).shape == (2,)
    code, out, told = rather("evaluate", run)
    assert code == 0, told
    assert "Ranking accuracy" in out and "Calibration error" in out
    code, _, told = rather("chat", run)
    assert code == 2 and "trained a reward model" in told


def test_an_embedding_with_adapters_stops_and_goes_on(model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    flags = (
        "--model",
        model,
        "--data",
        data,
        "--head",
        "gpm",
        "--dim",
        4,
        "--gate",
        "softmax_mean1",
        "--lora",
        *SMALL,
    )
    code, _, told = rather("fit-reward", *flags, "--output", "run", "--tau", 0.2)
    assert code == 0, told
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "head=gpm&dim=4&gate=softmax_mean1" in config and "learning_rate: 0.0001" in config
    # The same settings, as the file of the run: rather train takes them too.
    code, _, told = rather("fit-reward", *flags, "--output", "run", "--tau", 0.2, "--resume")
    assert code == 0 and "nothing to resume" in told
    code, _, told = rather("train", "--config", "run/config.yaml", "--output", "again")
    assert code == 0, told
    one, other = (rewards.load(tmp_path / name) for name in ("run", "again"))
    assert one.group("Hi", ["Sure.", "No."]).tolist() == other.group("Hi", ["Sure.", "No."]).tolist()
    assert one.scale == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--head", "gpm", "--dim", 3), "even number"),
        (("--dim", 4), "add head=gpm"),
        (("--tua", 3), "did you mean 'tau'"),
        (("--labels.flip-rate", 0.7), "--labels.flip-rate: Input should be less than 0.5"),
    ],
)
def test_mistakes(
    encoder: str, data: Path, rather: Call, flags: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    code, _, told = rather("fit-reward", "--model", encoder, "--data", data, "--output", "run", *flags)
    assert code == 2 and message in told and "Traceback" not in told
    assert not (tmp_path / "run").exists()


def test_the_head_is_said_once() -> None:
    assert model_name("m", {"head": "gpm", "dim": 4}) == "reward:m?head=gpm&dim=4"
    assert model_name("m", {}) == "reward:m"
    assert model_name("reward:m?head=gpm", {}) == "reward:m?head=gpm"
    with pytest.raises(UserError, match="settled in the model's name"):
        model_name("reward:m", {"head": "gpm"})


@pytest.mark.parametrize("method", ["gpo", "pad"])
def test_from_samples_to_a_policy(model: str, data: Path, rather: Call, tmp_path: Path, method: str) -> None:
    """One iteration: the policy's own responses, a judge, and training on their scores."""
    code, out, told = rather(
        "sample", "--model", model, "--data", data, "--judge", "length", "--out", "groups.jsonl", "--n", 4,
        "--max-new-tokens", 5, "--limit", 12, "--seed", 1,
    )  # fmt: skip
    assert code == 0, told
    rows = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text().splitlines()]
    assert f"{len(rows)} groups" in out and len(rows) > 6
    assert all(row["scores"] == [len(text) for text in row["responses"]] for row in rows)
    code, _, told = rather(
        "train",
        "--model",
        model,
        "--data",
        "groups.jsonl",
        "--method",
        method,
        "--output",
        "run",
        "--no-samples",
        *SMALL,
    )
    assert code == 0, told
    assert json.loads((tmp_path / "run" / "run.json").read_text())["method"]["name"] == method


def test_a_trained_judge_scores_samples(model: str, encoder: str, data: Path, rather: Call, tmp_path: Path) -> None:
    rather("fit-reward", "--model", encoder, "--data", data, "--output", "judge", *SMALL)
    code, _, told = rather(
        "sample", "--model", model, "--data", data, "--judge", "judge/model", "--out", "groups.jsonl", "--n", 3,
        "--keep", 2, "--max-new-tokens", 5, "--limit", 4,
    )  # fmt: skip
    assert code == 0, told
    rows = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text().splitlines()]
    judge = rewards.load(tmp_path / "judge")
    for row in rows:
        assert len(row["responses"]) == 2
        assert row["scores"] == pytest.approx(judge.score(row["prompt"], row["responses"]).tolist())


def test_sampling_mistakes(model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    common = ("sample", "--model", model, "--data", data, "--n", 2, "--max-new-tokens", 3, "--limit", 2)
    code, _, told = rather(*common, "--judge", "lenght", "--out", "groups.jsonl")
    assert code == 2 and "did you mean 'length'" in told
    code, _, told = rather(*common, "--judge", "length", "--out", "no/such/groups.jsonl")
    assert code == 2 and "no such folder" in told
    code, _, told = rather(*common, "--judge", "length", "--out", "groups.jsonl", "--temperature", 0)
    assert code == 2 and "no prompt gave a group" in told
    assert not list(tmp_path.glob("*groups*"))
