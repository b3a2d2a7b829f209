"""``rather filter`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Call
from rows import jsonl


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"p{i % 4}", "chosen": "c" * (i + 1), "rejected": "r" * 5, "margin": float(i % 6)}
        for i in range(12)
    ]
    return jsonl(tmp_path / "pairs.jsonl", *rows, {"prompt": "p", "chosen": "", "rejected": "r"})


def kept(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_best_by_the_datas_own_margins(data: Path, rather: Call, tmp_path: Path) -> None:
    out = tmp_path / "few.jsonl"
    code, said, told = rather("filter", data, "--keep", "25%", "--embedder", "none", "--out", out)
    assert code == 0, told
    assert [row["margin"] for row in kept(out)] == [5.0, 5.0, 4.0]
    assert "3 of 12 comparisons" in said
    assert "1 rows cannot be used" in told
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_judge_decides_and_every_score_is_written(data: Path, rather: Call, tmp_path: Path) -> None:
    out, scores = tmp_path / "few.jsonl", tmp_path / "scores.jsonl"
    common = ("filter", data, "--judge", "length", "--embedder", "none", "--keep", 2, "--out", out, "--scores", scores)
    assert rather(*common)[0] == 0
    assert [len(str(row["chosen"])) for row in kept(out)] == [12, 11]
    rows = kept(scores)
    assert [row["margin"] for row in rows] == [i - 4 for i in range(12)]
    assert [row["kept"] for row in rows] == [False] * 10 + [True] * 2
    assert rather(*common, "--margin", "abs", "--per-prompt", 1)[0] == 0
    assert len({str(row["prompt"]) for row in kept(out)}) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--keep", "0"), "neither a number nor a share"),
        (("--keep", "120%"), "neither a number nor a share"),
        (("--keep", "few"), "neither a number nor a share"),
        (("--judge", "lenght"), "did you mean"),
        (("--out", "nowhere/few.jsonl"), "there is no such folder"),
    ],
)
def test_mistakes(data: Path, rather: Call, tmp_path: Path, flags: tuple[str, str], message: str) -> None:
    given = {"--out": str(tmp_path / "few.jsonl"), "--embedder": "none"} | dict([flags])
    code, _, told = rather("filter", data, *[part for pair in given.items() for part in pair])
    assert code == 2
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "few.jsonl").exists()


def test_data_without_margins_needs_a_judge(rather: Call, tmp_path: Path) -> None:
    data = jsonl(tmp_path / "pairs.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    code, _, told = rather("filter", data, "--embedder", "none", "--out", tmp_path / "few.jsonl")
    assert code == 2
    assert "pairs.jsonl:1" in told
    assert "--judge" in told


def test_the_data_is_not_overwritten(data: Path, rather: Call) -> None:
    code, _, told = rather("filter", data, "--embedder", "none", "--out", data)
    assert code == 2
    assert "would overwrite the data" in told
