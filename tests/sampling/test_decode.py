from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from rather.sampling import decode as module
from rather.sampling.choose import Choice, uniforms
from rather.sampling.decode import common_start, decode, keeps_keys_and_values
from tests.tiny import tiny_lm

PROMPTS = [[5, 6, 7], [5, 6, 7], [8], list(range(9, 40)), [5, 6, 7], [20, 21]]
ENDS = [3, 17]
STEPS = 24


SYSTEM = list(range(30, 42))


def run(model: Any, prompts: list[list[int]], **choice: Any) -> tuple[torch.Tensor, torch.Tensor]:
    u = uniforms(0, [(row, 0) for row in range(len(prompts))], STEPS)
    with torch.no_grad():
        return decode(model, prompts, Choice(u, **choice), ends=ENDS, max_new_tokens=STEPS, pad=0)


@pytest.mark.parametrize("start", [[], SYSTEM], ids=["apart", "common start"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3", "gemma2", "gemma3_text", "mistral"])
def test_the_loop_is_the_models_own_generate(kind: str, start: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lm(kind, 60)
    assert keeps_keys_and_values(model)
    prompts = [start + prompt for prompt in PROMPTS]
    ids, logps = run(model, prompts)
    monkeypatch.setattr(module, "keeps_keys_and_values", lambda model: False)
    expected, expected_logps = run(model, prompts)
    lengths = [next((i + 1 for i, token in enumerate(row) if token in ENDS), STEPS) for row in expected.tolist()]
    assert min(lengths) < STEPS // 2  # some rows end early and are dropped
    for row, length in enumerate(lengths):
        assert ids[row, :length].tolist() == expected[row, :length].tolist()
        torch.testing.assert_close(logps[row, :length], expected_logps[row, :length], atol=1e-4, rtol=0)
        assert not ids[row, length:].any()


def test_a_prompt_is_encoded_once_and_ended_rows_are_dropped() -> None:
    model, shapes = tiny_lm("llama", 60), []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    ids, _ = run(model, PROMPTS)
    assert shapes[0] == (4, 31)
    assert shapes[1][0] >= shapes[-1][0] and shapes[-1][0] < len(PROMPTS)
    assert ids.shape[0] == len(PROMPTS)


def test_what_all_prompts_begin_with_is_computed_once() -> None:
    model, shapes = tiny_lm("llama", 60), []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    run(model, [SYSTEM + prompt for prompt in PROMPTS])
    assert shapes[:2] == [(1, len(SYSTEM)), (4, 31)]
    assert common_start([SYSTEM, [*SYSTEM, 5]]) == len(SYSTEM) - 1
    assert common_start([SYSTEM]) == common_start([[1, 2, 3], [1, 2, 4]]) == 0


def test_banned_tokens_are_never_taken_and_do_not_move_the_log_probability() -> None:
    model = tiny_lm("llama", 60)
    banned = torch.zeros(len(PROMPTS), 60, dtype=torch.bool)
    banned[0, 10:] = True
    ids, logps = run(model, PROMPTS, banned=banned)
    free, free_logps = run(model, PROMPTS)
    assert int(ids[0].max()) < 10
    assert ids[1:].tolist() == free[1:].tolist()
    with torch.no_grad():
        first = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].log_softmax(-1)
    assert float(logps[0, 0]) == pytest.approx(float(first[ids[0, 0]]), abs=1e-4)
    assert float(free_logps[0, 0]) == pytest.approx(float(first[free[0, 0]]), abs=1e-4)


def test_prompt_tuning_goes_by_generate() -> None:
    tuned = get_peft_model(tiny_lm("llama", 60), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert not keeps_keys_and_values(tuned)
    assert run(tuned, [[5, 6], [7]])[0].shape[0] == 2
