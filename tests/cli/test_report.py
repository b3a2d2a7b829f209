"""``rather report``, ``rather evaluate`` and ``rather chat`` on run folders with tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from rather.cli import chat as chat_module
from rather.cli.chat import Voice, chat
from rather.cli.evaluate import evaluate
from rather.cli.report import report
from rather.errors import UserError
from tiny import tiny_lm, tiny_model, tiny_tokenizer

app = typer.Typer()
for command in (report, evaluate, chat):
    app.command()(command)

WORDS = ["red", "green", "blue", "good", "river", "plan", "story", "poem", "letter", "friend", "city", "water"]


@pytest.fixture(autouse=True)
def _one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs(path: Path, number: int = 24) -> Path:
    rows = [
        {"prompt": f"write about {w} {i}", "chosen": f"good {w} story", "rejected": f"bad {w} letter"}
        for i in range(number)
        for w in [WORDS[i % len(WORDS)]]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_run(folder: Path, *, lora: bool = False, template: str = "auto", **config: Any) -> Path:
    """A finished run: the initial model, and a final one that is the initial one shifted."""
    initial = tiny_model(folder.parent / "initial")
    run = folder
    run.mkdir()
    if lora:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(initial)
        settings = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            get_peft_model(model, settings).save_pretrained(str(run / "model"))
    else:
        tiny_model(run / "model", seed=1)
    data = pairs(folder.parent / "pairs.jsonl")
    values = {"model": initial, "data": str(data), "method": "dpo", "beta": 0.1, "lora": lora, "template": template}
    (run / "config.yaml").write_text(yaml.safe_dump(values | {"eval_fraction": 0.5} | config))
    record = {"status": "finished", "command": "rather train", "model": {"name": initial}, "method": {"name": "dpo"}}
    (run / "run.json").write_text(json.dumps(record))
    return run


def call(*words: str, given: str | None = None) -> str:
    """Standard output of a command; its exceptions pass through."""
    result = CliRunner().invoke(app, list(words), input=given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_report_prints_the_path_it_wrote(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    out = call("report", str(run))
    assert out.strip() == str(run / "report.html")
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_report_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        call("report", str(tmp_path / "absent"))


@pytest.mark.parametrize("lora", [False, True])
def test_evaluate_scores_both_models_and_updates_the_run(tmp_path: Path, lora: bool) -> None:
    run = make_run(tmp_path / "run", lora=lora)
    (run / "evaluation.json").write_text(
        json.dumps({"world": {"after": {"pass_rate": 0.4}}, "after": {"length": 9.0}})
    )
    found = json.loads(call("evaluate", str(run), "--json"))
    before, after = found["before"], found["after"]
    assert before["pairs"] == after["pairs"] == 12
    assert before["accuracy"] == 0.5  # at the reference every implicit reward is zero
    assert before["kl"] == pytest.approx(0, abs=1e-6)
    assert before["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert after["kl"] > 0.01
    assert after["rewards/margins"] == pytest.approx(after["rewards/chosen"] - after["rewards/rejected"], abs=1e-6)
    saved = json.loads((run / "evaluation.json").read_text())
    assert saved["world"]["after"]["pass_rate"] == 0.4
    assert saved["after"]["length"] == 9.0
    assert saved["after"]["loss"] == after["loss"]
    assert "12 held-out pairs of" in (run / "report.html").read_text()


def test_evaluate_agrees_with_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = make_run(tmp_path / "run", template="none", precision="fp32")
    data = tmp_path / "one.jsonl"
    data.write_text(json.dumps({"prompt": "write about", "chosen": " good story", "rejected": " bad letter"}))
    found = json.loads(call("evaluate", str(run), "--data", str(data), "--json"))
    tokenizer, rewards = tiny_tokenizer(), {}
    for text in (" good story", " bad letter"):
        prompt, answer = tokenizer("write about").input_ids, [*tokenizer(text).input_ids, tokenizer.eos_token_id]
        logps = []
        for folder in (tmp_path / "initial", run / "model"):
            logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt + answer])).logits[0]
            steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            logps.append(steps.gather(-1, torch.tensor(answer)[:, None]).sum().item())
        rewards[text] = 0.1 * (logps[1] - logps[0])
    assert found["after"]["rewards/chosen"] == pytest.approx(rewards[" good story"], abs=1e-4)
    assert found["after"]["rewards/rejected"] == pytest.approx(rewards[" bad letter"], abs=1e-4)


def test_evaluate_prints_a_table(tmp_path: Path) -> None:
    out = call("evaluate", str(make_run(tmp_path / "run")), "--limit", "3")
    assert "3 held-out pairs" in out
    assert "Ranking accuracy" in out
    assert "report:" in out


def test_an_unfinished_run_is_told_how_to_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for file in (run / "model").iterdir():
        file.unlink()
    (run / "run.json").write_text(json.dumps({"status": "interrupted"}))
    for words in (("evaluate", str(run)), ("chat", str(run), "--prompt", "x")):
        with pytest.raises(UserError, match="interrupted") as caught:
            call(*words)
        assert "--resume" in (caught.value.fix or "")
        assert not (run / "report.html").exists()


def test_the_final_model_of_a_toy_run_is_opened_by_its_weights(tmp_path: Path) -> None:
    from rather.report.rescore import final_model
    from rather.report.run_folder import read_run

    run = tmp_path / "run 1"
    (run / "model").mkdir(parents=True)
    (run / "model" / "model.safetensors").write_bytes(b"")
    (run / "config.yaml").write_text("model: toy:points?seed=1\n")
    assert final_model(read_run(run)) == f"toy:points?seed=1&weights={tmp_path}/run%201/model"
    with pytest.raises(UserError, match="trained a toy model"):
        call("chat", str(run), "--prompt", "x")


def test_a_run_without_held_out_data(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", eval_fraction=0.0)
    with pytest.raises(UserError, match="held out no data"):
        call("evaluate", str(run))


def test_chat_answers_one_prompt_the_same_each_time(tmp_path: Path) -> None:
    run = str(make_run(tmp_path / "run"))
    words = ("chat", run, "--prompt", "hello friend", "--max-new-tokens", "12")
    assert call(*words) == call(*words)
    assert call(*words) != call(*words, "--seed", "1")


@pytest.mark.parametrize("lora", [False, True])
def test_chat_says_what_generate_says(tmp_path: Path, lora: bool) -> None:
    from rather.policies.models import load_causal_lm
    from rather.sampling.generate import generate

    run = make_run(tmp_path / "run", lora=lora)
    out = call("chat", str(run), "--base", "--prompt", "hello", "--temperature", "0", "--max-new-tokens", "10")
    messages = [{"role": "user", "content": "hello"}]
    wanted = []
    for folder in (tmp_path / "initial", run / "model"):
        model = load_causal_lm(str(folder))
        wanted.append(generate(model, tiny_tokenizer(), [messages], max_new_tokens=10, temperature=0)[0][0].text)
    assert out == f"[base]\n{wanted[0]}\n[trained]\n{wanted[1]}\n"
    assert wanted[0] != wanted[1]


def test_a_conversation_is_remembered_reset_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    seen: list[list[dict[str, str]]] = []
    original = Voice._encode

    def encode(self: Voice, turns: list[dict[str, str]], plain: str | None) -> list[int]:
        seen.append(list(turns))
        return original(self, turns, plain)

    monkeypatch.setattr(Voice, "_encode", encode)
    given = "hello\nplease write\n/reset\nname\n/unknown\n/exit\nnever read\n"
    out = call("chat", str(run), "--max-new-tokens", "4", given=given)
    assert [len(turns) for turns in seen] == [1, 3, 1]
    assert [turn["role"] for turn in seen[1]] == ["user", "assistant", "user"]
    assert "The conversation is forgotten." in out
    assert out.count(chat_module.HELP) == 2


def test_a_conversation_that_grows_too_long_can_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    result = CliRunner().invoke(
        app, ["chat", str(run), "--max-new-tokens", "505"], input="hello there my friend\n/exit\n"
    )
    assert result.exit_code == 0
    assert "exceed the context of 512" in result.stderr


def voice(**options: Any) -> Voice:
    tokenizer = tiny_tokenizer(chat=False)
    return Voice("v", tiny_lm(vocab_size=len(tokenizer)), tokenizer, chat=False, **options)


def test_without_a_chat_template_the_answer_ends_at_the_next_turn() -> None:
    pieces = ["Hello", " there\n", "\nHu", "man: and", " more"]
    assert "".join(voice()._until_next_turn(iter(pieces))) == "Hello there"
    assert "".join(voice()._until_next_turn(iter(["a\n\nHum", "ble"]))) == "a\n\nHumble"


def test_stopping_early_ends_the_thread_and_forgets_the_turn() -> None:
    import threading

    speaker = voice()
    before = threading.active_count()
    pieces = speaker.answer("hello", temperature=1.0, max_new_tokens=400)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert speaker.messages == []


def test_an_error_while_generating_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = voice()

    def fail(**_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(speaker.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(speaker.answer("hello", temperature=0, max_new_tokens=4))
