from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rather.errors import UserError
from rather.sampling.instruction_pairs import Sampler, Settings, build, main, packed
from rather.worlds.instructions.load import FILES
from rather.worlds.instructions.pairs import Answer

SMALL = replace(Settings(), train=20, heldout=12, n=3, chunk=4)
ANSWERS = ("It rains.", "it rains, and it pours", "Yes: 7 (or so)!", "Today we all have a cup of tea and enjoy it")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bool]]:
    """Sampling without a model: answers from a fixed pool, drawn by the chunk's seed."""
    made: list[tuple[int, int, bool]] = []

    def sample(self: Sampler, records: list[dict[str, Any]], seed: int, *, greedy: bool) -> list[list[Answer]]:
        made.append((len(records), seed, greedy))
        rng = random.Random(seed)
        number = 1 if greedy else self.settings.n
        return [[Answer(text, True, len(text)) for text in rng.sample(ANSWERS, number)] for _ in records]

    monkeypatch.setattr(Sampler, "_sample", sample)
    return made


def test_build_writes_all_and_resumes(calls: list[tuple[int, int, bool]], tmp_path: Path) -> None:
    summary = build(SMALL, tmp_path)
    assert calls == [
        (12, 0, True),
        *((4, 1_000_000 + i, False) for i in (0, 4, 8)),
        *((4, i, False) for i in range(0, 20, 4)),
    ]
    first = {name: (tmp_path / name).read_bytes() for name in (*FILES.values(), "summary.json")}
    rows = [json.loads(line) for line in gzip.decompress(first["pairs-train.jsonl.gz"]).splitlines()]
    assert summary["pairs"]["pairs-train"]["pairs"] == len(rows) > 0
    assert summary["pass_rates"]["heldout_sampled"]["n"] == 36

    calls.clear()
    (tmp_path / "answers" / "train-00008.json").unlink()
    assert build(SMALL, tmp_path) == summary
    assert calls == [(4, 8, False)]
    assert first == {name: (tmp_path / name).read_bytes() for name in first}
    assert not list(tmp_path.rglob("*.partial"))

    calls.clear()
    build(replace(SMALL, temperature=0.5), tmp_path)
    assert len(calls) == 9  # other settings never reuse answers


def test_main_reports_a_model_without_contrast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    def same(self: Sampler, records: list[Any], seed: int, *, greedy: bool) -> list[list[Answer]]:
        return [[Answer("Rain", True, 2)] for _ in records]

    monkeypatch.setattr(Sampler, "_sample", same)
    with pytest.raises(UserError, match="no two answers"):
        build(SMALL, tmp_path)
    options = ["--out", str(tmp_path), "--train", "8", "--heldout", "8", "--n", "2"]
    assert main(options) == 2
    assert "no two answers" in capsys.readouterr().out
    assert not (tmp_path / "summary.json").exists()


def test_no_more_answers_are_guided_than_there_are(calls: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 of 1 answers"):
        build(replace(SMALL, n=1), tmp_path)
    assert not calls and not list(tmp_path.iterdir())


def test_packed_is_deterministic() -> None:
    rows = [{"a": "é", "b": [1]}]
    assert packed(rows) == packed(rows)
    assert json.loads(gzip.decompress(packed(rows))) == rows[0]
