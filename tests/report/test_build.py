"""The whole page from run folders in every state."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rather.errors import UserError
from rather.report.build import build_report
from rather.report.theme import DARK, LIGHT, TEXT_ON, contrast

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, text by tag, and whether every tag closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.faults: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    page = Page(build_report(folder).read_text(encoding="utf-8"))
    assert page.faults == []
    assert page.open == []
    return page


def words(page: Page) -> str:
    return " ".join(part for name, parts in page.texts.items() if name not in ("script", "style") for part in parts)


def test_a_finished_run_has_every_section(make_run: MakeRun) -> None:
    page = page_of(make_run())
    headings = [text for text in page.texts["h2"] if text.strip()]
    assert headings == [
        "Worth knowing",
        "Before and after",
        "Curves",
        "Sampled answers",
        "Data",
        "Method",
        "Record",
    ]
    text = words(page)
    for wanted in (
        "Robust DPO on smollm2-135m",
        "went from 50.0% to 73.5% (67.0 to 79.2%) over 200 pairs",
        "went from 18.0% (13.4 to 24.0%) to 41.0% (34.4 to 47.9%)",
        "The chosen answers became less likely",
        "--sft 0.1",
        "arXiv 2403.00409 eq. 12",
        "rows refused: chosen equals rejected",
        "--labels.flip_rate 0.1",
        "2.13.0",
        "two sentences passed",
        "two sentences failed",
    ):
        assert wanted in text, wanted


def test_the_page_is_accessible(make_run: MakeRun) -> None:
    page = page_of(make_run())
    assert page.named("html")[0]["lang"] == "en"
    assert len(page.named("h1")) == len(page.named("main")) == len(page.named("header")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.named("th"))
    drawn = [one for one in page.named("svg") if one.get("role") == "img"]
    assert len(drawn) >= 10
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for one in drawn:
        assert set(str(one["aria-labelledby"]).split()) <= set(ids)
    for label in (attributes["aria-labelledby"] for attributes in page.named("section")):
        assert label in ids
    for link in page.named("a"):
        assert str(link["href"])[1:] in ids


def test_every_chart_has_a_table(make_run: MakeRun) -> None:
    page = page_of(make_run())
    figures, details = len(page.named("figure")), len(page.named("details"))
    assert figures >= 10
    assert details == figures + 2  # and one each for the other metrics and the configuration


def test_nothing_is_loaded_from_anywhere(make_run: MakeRun) -> None:
    page = page_of(make_run())
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    style = "".join(page.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(one["content"] for one in page.named("meta") if one.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'")


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></title></svg></style>"


def test_text_from_the_run_is_inert(make_run: MakeRun) -> None:
    plain = page_of(make_run("plain"))
    rows = [{"step": i, "split": "train", "loss": 0.5 / i, HOSTILE: 1.0 / i} for i in range(1, 5)]
    run: dict[str, Any] = {
        "status": "finished",
        "command": HOSTILE,
        "method": {
            "name": HOSTILE,
            "title": HOSTILE,
            "equation": HOSTILE,
            "source": HOSTILE,
            "options": {HOSTILE: HOSTILE},
        },
        "model": {"name": HOSTILE},
        "data": {"train": {HOSTILE: HOSTILE}},
        "versions": {HOSTILE: HOSTILE},
        "warnings": [HOSTILE],
        "device": HOSTILE,
    }
    side = {HOSTILE: True, "other": HOSTILE}
    samples = [{"prompt": HOSTILE, "before": HOSTILE, "after": HOSTILE, "checks": {"before": side, "after": side}}]
    evaluation = {"before": {HOSTILE: 1.0}, "after": {HOSTILE: 2.0}}
    folder = make_run("bad", run=run, metrics=rows, samples=samples, evaluation=evaluation, config=f"a: {HOSTILE}\n")
    page = page_of(folder)
    assert len(page.named("script")) == len(plain.named("script")) == 1
    assert page.texts["script"] == plain.texts["script"]
    assert len(page.named("img")) == 0
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in words(page)


@pytest.mark.parametrize("missing", ["run", "metrics", "evaluation", "samples"])
def test_a_run_without_one_of_its_files(make_run: MakeRun, missing: str) -> None:
    text = words(page_of(make_run(**{missing: None})))
    assert ("Sampled answers" in text) is (missing != "samples")
    assert ("Before and after" in text) is (missing != "evaluation")
    assert ("Nothing has been logged" in text) is (missing == "metrics")
    if missing == "evaluation":
        assert "No held-out evaluation yet (300 steps logged); held-out ranking accuracy stands at" in text


def test_a_run_that_has_only_begun(make_run: MakeRun) -> None:
    run = {"status": "running", "command": "rather train"}
    text = words(page_of(make_run(run=run, metrics=None, evaluation=None, samples=None, config="")))
    assert "Nothing has been logged yet, so there is nothing to conclude." in text
    assert "The run is not finished" in text


def test_a_single_step(make_run: MakeRun) -> None:
    row = {"step": 1, "split": "train", "loss": 0.6931, "rewards/margins": 0.0, "rewards/accuracies": 0.0}
    page = page_of(make_run(metrics=[row], evaluation=None))
    assert "(1 step logged)" in words(page)
    assert len(page.named("circle")) == 3


def test_metrics_that_are_not_finite(make_run: MakeRun) -> None:
    rows = [
        {"step": i, "split": "train", "loss": math.nan if i % 7 == 0 else 0.5, "grad_norm": math.inf, "kl": None}
        for i in range(1, 100)
    ]
    text = words(page_of(make_run(metrics=rows, evaluation=None)))
    assert "loss (train): 14 of 99, first at step 7" in text
    assert "grad_norm (train): 99 of 99" in text
    assert "training: no finite value." in text


def test_a_line_cut_off_by_a_crash(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 301, "split": "tra')
    (folder / "evaluation.json").write_text("{")
    text = words(page_of(folder))
    assert "metrics.jsonl: 1 unreadable line(s) left out (line 307)" in text
    assert "evaluation.json is not valid JSON" in text


def test_a_hundred_thousand_points_stay_light(make_run: MakeRun) -> None:
    rows = [
        {
            "step": i,
            "split": "train",
            "loss": 0.5 + 0.1 * math.sin(i),
            "rewards/margins": i / 1e5,
            "grad_norm": 1.0 + i % 3,
        }
        for i in range(1, 100_001)
    ]
    rows[54_321]["loss"] = 9.0
    folder = make_run(metrics=rows, evaluation=None)
    start = time.perf_counter()
    report = build_report(folder)
    assert time.perf_counter() - start < 20
    assert report.stat().st_size < 400_000
    assert "greatest 9." in report.read_text()


def test_pictures_are_embedded_with_alternative_text(make_run: MakeRun, tmp_path: Path, picture: bytes) -> None:
    samples = [{"prompt": 'a "red" square', "before": "samples/0-before.png", "after": "0-after.png", "checks": None}]
    folder = make_run(samples=samples)
    (folder / "samples").mkdir()
    for name in ("0-before.png", "0-after.png"):
        (folder / "samples" / name).write_bytes(picture)
    images = page_of(folder).named("img")
    assert [image["alt"] for image in images] == [
        'Picture sampled before training for the prompt: a "red" square',
        'Picture sampled after training for the prompt: a "red" square',
    ]
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in images)
    (folder / "samples.jsonl").unlink()
    images = page_of(folder).named("img")
    assert [image["alt"] for image in images] == ["Sampled picture 0-after", "Sampled picture 0-before"]


def test_no_picture_outside_the_run_is_read(make_run: MakeRun, tmp_path: Path, picture: bytes) -> None:
    (tmp_path / "secret.png").write_bytes(picture)
    folder = make_run(samples=[{"prompt": "p", "before": "../secret.png", "after": str(tmp_path / "secret.png")}])
    page = page_of(folder)
    assert page.named("img") == []
    assert "../secret.png" in words(page)
    (folder / "samples").mkdir()
    (folder / "samples" / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "samples.jsonl").unlink()
    assert page_of(folder).named("img") == []


def test_large_pictures_are_counted_and_not_embedded(
    make_run: MakeRun, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rather.report.samples.PICTURE_BYTES", len(picture))
    folder = make_run(samples=[{"prompt": "p", "before": "a.png", "after": "b.png"}])
    (folder / "samples").mkdir()
    for name in ("a.png", "b.png"):
        (folder / "samples" / name).write_bytes(picture)
    page = page_of(folder)
    assert len(page.named("img")) == 1
    assert "1 picture(s) left out for size." in words(page)


def test_rebuilding_replaces_and_leaves_nothing_behind(make_run: MakeRun) -> None:
    folder = make_run()
    before = {path.name for path in folder.iterdir()}
    first = build_report(folder)
    first.write_text("old")
    assert build_report(folder) == first
    assert first.read_text() != "old"
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_what_is_no_run_folder(tmp_path: Path, make_run: MakeRun) -> None:
    with pytest.raises(UserError, match="does not exist"):
        build_report(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not a run folder"):
        build_report(tmp_path / "empty")
    make_run("first")
    with pytest.raises(UserError, match="it holds runs: first"):
        build_report(tmp_path)
    assert not list(tmp_path.glob("*/.report*"))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_contrast(theme: dict[str, str]) -> None:
    for text, ground in TEXT_ON:
        assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    for line in ("line-1", "line-2", "line-3"):
        assert contrast(theme[line], theme["page"]) >= 3


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_config_with_broken_yaml_is_shown_as_it_is(make_run: MakeRun) -> None:
    text = words(page_of(make_run(config="a: [1,\n")))
    assert "config.yaml is not valid YAML" in text
    assert "a: [1," in text


def test_samples_may_be_conversations_and_empty(make_run: MakeRun) -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}, {"role": "assistant", "content": "hi"}]
    samples = [{"prompt": turns, "before": "", "after": [{"role": "assistant", "content": "bye"}], "checks": None}]
    text = words(page_of(make_run(samples=samples)))
    assert "user: hello\n\nassistant: hi" in text
    assert "assistant: bye" in text
    assert "(empty answer)" in text


def test_more_samples_than_are_shown_are_counted(make_run: MakeRun) -> None:
    samples = [{"prompt": str(i), "before": "a", "after": "b"} for i in range(45)]
    page = page_of(make_run(samples=samples))
    assert len(page.named("article")) == 40
    assert "5 more in the run folder." in words(page)


def test_the_folder_survives_numbers_of_odd_types(make_run: MakeRun) -> None:
    run = json.loads(
        '{"status": null, "method": "dpo", "model": null, "data": [], "parameters": {"total": 0}, "seconds": "x"}'
    )
    assert "dpo" in words(page_of(make_run(run=run, evaluation={"before": 3, "after": None}, metrics=[{"step": "x"}])))


def test_long_lists_are_shortened_and_lengths_are_told_with_the_data(make_run: MakeRun) -> None:
    run = {"data": {"train": {"encoding": {"dropped_rows": [f"pairs.jsonl:{i}: too long" for i in range(400)]}}}}
    text = words(page_of(make_run(run=run)))
    assert "pairs.jsonl:4: too long, and 395 more (in run.json)" in text
    assert "mean length of chosen answers, tokens" in text


def test_numbers_before_alone_are_called_that(make_run: MakeRun) -> None:
    page = page_of(make_run(evaluation={"before": {"accuracy": 0.5, "n": 10}}, run={"status": "running"}))
    assert "Before training" in page.texts["h2"]
    assert "After" not in page.texts["th"]
    assert "rather evaluate" not in words(page)


def test_a_replacement_character_that_a_model_wrote_is_no_fault(make_run: MakeRun) -> None:
    samples = [{"prompt": "p", "before": "\ufffd", "after": "x"}]
    folder = make_run(samples=samples)
    (folder / "samples.jsonl").write_text(json.dumps(samples[0], ensure_ascii=False) + "\n", encoding="utf-8")
    assert "UTF-8" not in words(page_of(folder))
    (folder / "samples.jsonl").write_bytes(b'{"prompt": "\xff", "before": "a", "after": "b"}\n')
    assert "samples.jsonl is not wholly UTF-8" in words(page_of(folder))


def test_what_encoding_did_is_told_in_short(make_run: MakeRun) -> None:
    encoding = {
        "encoded": 92,
        "dropped": {"no room within max_length (25.6)": 15},
        "prompt_tokens": {"mean": 111.7, "max": 243},
    }
    text = words(page_of(make_run(run={"data": {"train": {"encoding": encoding}}})))
    assert "left out: no room within max_length (25.6)" in text
    assert "mean 111.7, max 243" in text
