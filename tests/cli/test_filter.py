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


def test_a_judge_of_images_filters_pairs_of_images(rather: Call, tmp_path: Path) -> None:
    """Of pairs in the world of shapes, those whose chosen image alone obeys the caption come first."""
    from rather.worlds.shapes.pairs import ShapesOptions, load_pairs

    rows = []
    for number, pair in enumerate(load_pairs(ShapesOptions(pairs=6))):  # type: ignore[call-arg]
        good, bad = pair.responses
        names = [f"{number}-{side}.png" for side in ("good", "bad")]
        for name, image in zip(names, (good, bad), strict=True):
            (tmp_path / name).write_bytes(image)
        chosen, rejected = names if number % 2 else names[::-1]
        rows.append({"prompt": pair.prompt, "chosen": chosen, "rejected": rejected})
    data, out = jsonl(tmp_path / "pairs.jsonl", *rows), tmp_path / "few.jsonl"
    common = ("filter", data, "--embedder", "none", "--keep", 3, "--out", out)
    code, _, told = rather(*common, "--judge", "checker:shapes")
    assert code == 0, told
    assert all("good" in str(row["chosen"]) for row in kept(out))
    code, _, told = rather(*common, "--judge", "length")
    assert (code, "Traceback" in told) == (2, False)
    assert "judges text, and the responses are images" in told


def test_a_judge_of_images_does_not_judge_text(data: Path, rather: Call, tmp_path: Path) -> None:
    common = ("--judge", "checker:shapes", "--out", tmp_path / "few.jsonl")
    code, _, told = rather("filter", data, "--embedder", "none", *common)
    assert code == 2 and "judges images, and the responses are text" in told
    code, _, told = rather("sample", "--model", "any", "--data", data, *common)
    assert code == 2 and "judges images" in told and "rather evaluate" in told


def test_images_as_bytes_are_refused_before_anything_is_judged(rather: Call, tmp_path: Path) -> None:
    out = tmp_path / "few.jsonl"
    code, _, told = rather("filter", "world:shapes?pairs=4", "--judge", "checker:shapes", "--out", out)
    assert code == 2 and "only text and paths can be written" in told
    assert not out.exists()
