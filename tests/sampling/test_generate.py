from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rather.errors import UserError
from rather.sampling.choose import draw, uniforms
from rather.sampling.generate import generate
from rather.sampling.prompts import batches, encode, end_ids

VOCAB = 40
EOS = 1
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [20, 21], [5, 6]]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<unk>", "<|im_end|>", "<pad>", *(f"w{i}" for i in range(3, VOCAB))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<pad>"
    )


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.4,  # wide, so that the next token is far from uniform
        eos_token_id=EOS,
        pad_token_id=2,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).float().eval()


def token_logps(model: LlamaForCausalLM, prompt: list[int], ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities of ``ids`` by one plain forward pass without cache or padding: ``[len(ids)]``."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, torch.tensor(ids).unsqueeze(-1)).squeeze(-1)


def test_greedy_is_the_argmax_of_a_plain_forward_pass(model, tokenizer):
    samples = generate(model, tokenizer, PROMPTS, max_new_tokens=8, temperature=0)
    for prompt, (sample,) in zip(PROMPTS, samples, strict=True):
        ids = list(prompt)
        for token in sample.ids:
            with torch.no_grad():
                assert int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)
        assert sample.finished == (sample.ids[-1] == EOS)
        assert sample.finished or len(sample.ids) == 8


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_samples_do_not_depend_on_the_batch(model, tokenizer, temperature):
    def run(**options):
        return generate(
            model, tokenizer, PROMPTS, max_new_tokens=8, n=2, temperature=temperature, top_p=0.9, seed=3, **options
        )

    together = run()
    for apart in (run(batch_size=1), run(batch_size=3), run(token_budget=30)):
        assert [[s.ids for s in row] for row in apart] == [[s.ids for s in row] for row in together]
        for row, other in zip(apart, together, strict=True):
            for a, b in zip(row, other, strict=True):
                assert a.logprob_sum == pytest.approx(b.logprob_sum, abs=1e-4)


def test_logprob_is_the_policys_own_whatever_the_temperature(model, tokenizer):
    samples = generate(model, tokenizer, PROMPTS, max_new_tokens=6, n=3, temperature=0.7, top_p=0.8, seed=1)
    for prompt, row in zip(PROMPTS, samples, strict=True):
        for sample in row:
            expected = token_logps(model, prompt, sample.ids).sum().item()
            assert sample.logprob_sum == pytest.approx(expected, abs=1e-4)


def test_seed_decides_and_the_global_random_state_is_untouched(model, tokenizer):
    def run(seed: int) -> list[tuple[int, ...]]:
        rows = generate(model, tokenizer, PROMPTS, max_new_tokens=8, n=2, seed=seed)
        return [sample.ids for row in rows for sample in row]

    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert run(0) == first
    assert run(1) != first
    assert first[0] != first[1]  # the two samples of a prompt have streams of their own


def test_frequencies_follow_the_model(model, tokenizer):
    n = 4000
    (row,) = generate(model, tokenizer, [[5, 6, 7]], max_new_tokens=1, n=n, batch_size=1000, token_budget=None)
    counts = torch.bincount(torch.tensor([sample.ids[0] for sample in row]), minlength=VOCAB).double()
    with torch.no_grad():
        probs = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].double().softmax(-1)
    error = (counts / n - probs).abs() / (probs * (1 - probs) / n).sqrt().clamp_min(1e-3)
    assert error.max() < 5  # standard errors


def test_stop_ids_text_and_finished(model, tokenizer):
    (whole,) = generate(model, tokenizer, [[5, 6, 7]], max_new_tokens=8, temperature=0, stop_ids=[])[0]
    assert len(whole.ids) == 8
    assert not whole.finished
    stop = whole.ids[3]
    first = whole.ids.index(stop)
    (cut,) = generate(model, tokenizer, [[5, 6, 7]], max_new_tokens=8, temperature=0, stop_ids=[stop])[0]
    assert cut.finished
    assert cut.ids == whole.ids[: first + 1]
    assert cut.text == tokenizer.decode(list(whole.ids[:first]), skip_special_tokens=True)


def test_saved_generation_settings_are_ignored_and_put_back(model, tokenizer):
    plain = generate(model, tokenizer, PROMPTS, max_new_tokens=8, temperature=0)
    saved = model.generation_config
    biased = GenerationConfig(repetition_penalty=5.0, suppress_tokens=list(range(3, 30)), eos_token_id=EOS)
    try:
        model.generation_config = biased
        assert generate(model, tokenizer, PROMPTS, max_new_tokens=8, temperature=0) == plain
        assert model.generation_config is biased
    finally:
        model.generation_config = saved


def test_modes_are_put_back_even_after_an_error(model, tokenizer):
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    generate(model, tokenizer, [[5]], max_new_tokens=2)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(IndexError):
        generate(model, tokenizer, [[VOCAB + 5]], max_new_tokens=2)
    assert [module.training for module in model.modules()] == modes
    model.eval()


def test_adapters_on_and_off(model, tokenizer):
    plain = generate(model, tokenizer, PROMPTS, max_new_tokens=8, temperature=0)
    peft_model = get_peft_model(
        deepcopy(model), LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    adapted = generate(peft_model, tokenizer, PROMPTS, max_new_tokens=8, temperature=0)
    with peft_model.disable_adapter():
        off = generate(peft_model, tokenizer, PROMPTS, max_new_tokens=8, temperature=0)

    def ids(rows):
        return [sample.ids for row in rows for sample in row]

    assert ids(off) == ids(plain)
    assert ids(adapted) != ids(plain)
    for prompt, (sample,) in zip(PROMPTS, adapted, strict=True):
        expected = token_logps(peft_model, prompt, sample.ids).sum().item()
        assert sample.logprob_sum == pytest.approx(expected, abs=1e-4)


def test_progress_bar_and_no_prompts(model, tokenizer, capfd):
    assert generate(model, tokenizer, [], max_new_tokens=4) == []
    generate(model, tokenizer, [[5], [6]], max_new_tokens=2, progress=True)
    out, _ = capfd.readouterr()
    assert out == ""


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"n": 0}, "n"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_new_tokens": 62}, "prompt 0"),
    ],
)
def test_refusals(model, tokenizer, options, where):
    with pytest.raises(UserError) as caught:
        generate(model, tokenizer, [[5, 6, 7]], **{"max_new_tokens": 4, **options})
    assert caught.value.where == where


def test_encode(tokenizer):
    assert encode(tokenizer, "w5 w6") == [5, 6]
    assert encode(tokenizer, [5, 6]) == [5, 6]
    for empty in ("", []):
        with pytest.raises(UserError, match="empty"):
            encode(tokenizer, empty)
    messages = [{"role": "user", "content": "w5"}]
    with pytest.raises(UserError, match="chat template"):
        encode(tokenizer, messages)
    template = "{% for m in messages %}{{ m['content'] }} <|im_end|> {% endfor %}"
    template += "{% if add_generation_prompt %}w9{% endif %}"
    tokenizer.chat_template = template
    try:
        assert encode(tokenizer, messages) == [5, EOS, 9]
    finally:
        tokenizer.chat_template = None


def test_end_ids_come_from_tokenizer_model_and_chat_format(model, tokenizer):
    assert end_ids(model, tokenizer) == [EOS]
    saved = model.generation_config
    try:
        model.generation_config = GenerationConfig(eos_token_id=[4, 30])
        assert end_ids(model, tokenizer) == [EOS, 4, 30]
    finally:
        model.generation_config = saved


@given(
    lengths=st.lists(st.integers(1, 50), max_size=40),
    new=st.integers(1, 20),
    size=st.integers(1, 8),
    budget=st.one_of(st.none(), st.integers(1, 400)),
)
@settings(max_examples=100, deadline=None)
def test_batches_cover_every_row_once_within_the_budget(lengths, new, size, budget):
    plan = batches(lengths, new, batch_size=size, token_budget=budget)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        assert 1 <= len(batch) <= size
        width = max(lengths[index] for index in batch) + new
        assert budget is None or len(batch) == 1 or len(batch) * width <= budget


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.2, 3.0), top_p=st.floats(0.05, 1.0))
@settings(max_examples=100, deadline=None)
def test_draw_is_the_inverse_of_the_truncated_distribution(seed, temperature, top_p):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 1200, generator=generator) * torch.tensor([[0.01], [2.0], [8.0]])  # wide and narrow nuclei
    u = torch.rand(3, generator=generator, dtype=torch.float64)
    tokens = draw(logits, u, temperature=temperature, top_p=top_p)
    for row in range(3):
        probs = (logits[row].double() / temperature).softmax(-1)
        before = probs[probs > probs[tokens[row]]].sum().item()
        assert top_p == 1 or before < top_p + 1e-5  # inside the nucleus
    lowest = draw(logits, torch.zeros(3, dtype=torch.float64), temperature=temperature, top_p=top_p)
    if top_p < 1:
        assert torch.equal(lowest, logits.argmax(-1))


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_draw_never_takes_a_token_of_probability_zero(top_p):
    logits = torch.full((2, 600), -torch.inf)
    logits[:, 3], logits[:, 7] = 0.0, 1.0
    for value in (0.0, 1 - 2**-53):
        tokens = draw(logits, torch.full((2,), value, dtype=torch.float64), temperature=1.0, top_p=top_p)
        assert set(tokens.tolist()) <= {3, 7}


def test_streams_depend_on_the_row_alone():
    both = uniforms(5, [(0, 0), (3, 1)], 6)
    assert torch.equal(uniforms(5, [(3, 1)], 6)[0], both[1])
    assert torch.equal(uniforms(5, [(3, 1)], 4)[0], both[1, :4])  # a longer answer starts alike
    assert not torch.equal(both[0], both[1])
