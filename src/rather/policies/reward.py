"""Reward models as policies: one score, or one embedding, for each response as a whole.

``reward:MODEL?head=bt`` puts a head on any causal language model or encoder; the same prefix opens a folder that a run
has saved. It goes through the same loop, checkpoints and reports as any policy.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from rather.data.types import Comparison
from rather.errors import UserError
from rather.objectives.embedding import EMBEDDING, GATE
from rather.objectives.scores import Layout, Scores
from rather.policies.base import Batch, Draw, Encoded
from rather.policies.checkpointing import checkpoint_layers
from rather.policies.encoders import is_encoder, load_encoder
from rather.policies.encoding_report import EncodingReport
from rather.policies.fingerprint import fingerprint
from rather.policies.forms import padded_inputs, shared_inputs
from rather.policies.language import disable_dropout
from rather.policies.lora import REFERENCE, add_lora
from rather.policies.models import load_causal_lm, load_tokenizer, resolve
from rather.policies.precision import compute_dtype
from rather.policies.reward_network import HeadOptions, Pooling, RewardNetwork, unwrap
from rather.policies.scorer import LanguageScorer
from rather.policies.selfcheck import choose_form, compile_checked
from rather.policies.settings import PolicySettings
from rather.policies.tokenization import TextEncoder, Tokens
from rather.policies.toys import weights_hash
from rather.worlds.query import read_options, split_query

PREFIX = "reward:"
SPEC, HEADS = "reward.json", "reward_head.safetensors"
"""What a saved reward model has beside the files of its transformer: the head's options, the heads' weights."""


class RewardPolicy:
    """A transformer with a head on the last token of each response (of an encoder: on the mean of its states).

    A causal model computes the prompt once for all responses where it can; an encoder reads prompt and response together,
    and a gate's prompt once more alone, since its states see both sides.

    Args:
        model: a causal language model or an encoder of transformers, or a ``PeftModel`` around one.
        tokenizer: its tokenizer, with a pad token.
        settings: template, lengths, precision, encoding.
        options: the head.
        encoder: whether the model is an encoder.

    Attributes:
        form: ``shared``, ``padded`` or ``encoder``; how batches are laid out.
        report: what the latest ``encode`` call did.
    """

    kind = "reward"

    def __init__(
        self, model: nn.Module, tokenizer: Any, settings: PolicySettings, options: HeadOptions, *, encoder: bool
    ) -> None:
        self.settings, self.options = settings, options
        self.report = EncodingReport()
        disable_dropout(model)
        scorer = LanguageScorer(model, compute_dtype(settings.precision, next(model.parameters()).device))
        base = scorer.causal_lm
        if settings.gradient_checkpointing:
            checkpoint_layers(base, settings.checkpoint_share)
        self._sep: int | None = tokenizer.sep_token_id if encoder else None
        self.encoder = TextEncoder(
            tokenizer,
            template=settings.template,
            max_length=_room(settings, base.config, tokenizer if encoder else None)
            - (2 if self._sep is not None else 0),
            truncation=settings.truncation,
        )
        self.form = "encoder" if encoder else _form(scorer, tokenizer, settings)
        if encoder and settings.compile:
            warnings.warn("an encoder is not compiled; it runs without --compile", stacklevel=2)
        pooling: Pooling = options.pooling if options.pooling != "auto" else "mean" if encoder else "last"
        if pooling != "last" and not encoder:
            raise UserError("is for encoders: a causal model's last token sees the others", where=f"pooling={pooling}")
        _leave_out_output_layer(base)
        self.network: nn.Module = RewardNetwork(scorer, options, pooling)
        self.provides = frozenset({"reward" if options.head == "bt" else "embedding", "auxiliary"})

    @classmethod
    def load(cls, settings: PolicySettings) -> RewardPolicy:
        """Open ``reward:MODEL?key=value``; see ``open_reward``."""
        where = settings.model
        name, values = split_query(where.removeprefix(PREFIX), where)
        saved = _saved_options(Path(name).expanduser())
        if saved is not None and values:
            raise UserError("a trained reward model has its head already", where=where, fix="leave the options out")
        options = saved or _chosen_options(values, where)
        at, trust = resolve(name), settings.trust_remote_code
        encoder = is_encoder(at, trust_remote_code=trust)
        load = load_encoder if encoder else load_causal_lm
        model: Any = load(at, "float32", trust_remote_code=trust, adapter_trainable=True)
        if at.adapter is None and settings.lora:
            model = add_lora(model, settings)
        policy = cls(model, load_tokenizer(at, trust_remote_code=trust), settings, options, encoder=encoder)
        if saved is not None:
            policy._load_heads(Path(name).expanduser())
        return policy

    def _load_heads(self, folder: Path) -> None:
        from safetensors.torch import load_file

        try:
            found = load_file(folder / HEADS)
            for part, head in self._heads().items():
                head.load_state_dict({"weight": found[part]})
        except (OSError, KeyError, RuntimeError) as error:
            raise UserError(f"its head cannot be read: {error}", where=str(folder / HEADS)) from None

    def _heads(self) -> dict[str, nn.Linear]:
        network = unwrap(self.network)
        return {"head": network.head} | ({"gate": network.gate} if network.gate is not None else {})

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        """Token ids of comparisons, in order; every response is one element. See ``LanguagePolicy.encode``."""
        self.report = EncodingReport()
        return [
            Encoded(comparison, (1,) * sum(len(t.responses) for t in parts), sum(map(self._cost, parts)), parts)
            for comparison, parts in self.encoder.encode(comparisons, self.report)
        ]

    def _cost(self, tokens: Tokens) -> int:
        prompts = 1 if self.form == "shared" else len(tokens.responses)
        return prompts * len(tokens.prompt) + sum(tokens.lengths)

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        """A batch in the given order; ``inputs`` holds what the network's forward takes."""
        tokens = [tokens for item in encoded for tokens in item.inputs]
        layout = Layout.of([item.comparison for item in encoded], [n for item in encoded for n in item.lengths])
        inputs = self._encoder_rows(tokens) if self.form == "encoder" else _causal_rows(tokens, self.form)
        return Batch(layout, {"form": self.form, **inputs}, tuple(item.comparison.id for item in encoded))

    def _encoder_rows(self, tokens: Sequence[Tokens]) -> dict[str, Any]:
        end = [] if self._sep is None else [self._sep]
        prompts = [[*t.prompt.tolist(), *end] for t in tokens]
        rows = [
            [*prompt, *response.tolist(), *(end if response[-1] != self._sep else [])]
            for prompt, t in zip(prompts, tokens, strict=True)
            for response in t.responses
        ]
        responses = len(rows)
        owner = [responses + i for i, t in enumerate(tokens) for _ in t.responses]
        rows += prompts if self.options.gated else []
        width = max(map(len, rows))
        pad = self.encoder.tokenizer.pad_token_id
        return {
            "input_ids": torch.tensor([row + [pad] * (width - len(row)) for row in rows]),
            "mask": torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows]),
            "ends": torch.arange(responses),
            "starts": torch.tensor(owner),
        }

    def draw(self, batch: Batch, seed: int) -> Draw:
        """Nothing: a reward is not random."""
        return None

    def score(self, network: nn.Module, batch: Batch, draw: Draw) -> Scores:
        """One element for each response: its reward; or 0 beside its embedding in the extras, and its planes' weights.

        Args:
            network: ``self.network``, a copy of it, or either wrapped.
        """
        values, gate = network(**batch.inputs)
        response = torch.arange(len(values), device=values.device)
        if self.options.head == "bt":
            return Scores(values[:, 0], response)
        extras: dict[str, Tensor] = {EMBEDDING: values} | ({} if gate is None else {GATE: gate})
        return Scores(values.new_zeros(len(values)), response, extras)

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        """``None``: without its adapters the model still has a head that was trained."""
        return None

    def fingerprint(self) -> str:
        """Hash of weights, heads, template, lengths and type."""
        heads = {name: head.weight for name, head in self._heads().items()}
        return weights_hash(heads, fingerprint(unwrap(self.network).scorer, self.encoder), self.options)

    def save(self, network: nn.Module, folder: Path) -> None:
        """Transformer (or adapter) and tokenizer as transformers (or peft) load them, and the heads; safetensors."""
        from safetensors.torch import save_file

        inner = unwrap(network)
        model: Any = inner.scorer.model
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if hasattr(model, "peft_config"):
            model.save_pretrained(folder, selected_adapters=[n for n in model.peft_config if n != REFERENCE])
        else:
            model.save_pretrained(folder)
        self.encoder.tokenizer.save_pretrained(folder)
        heads = {"head": inner.head} | ({"gate": inner.gate} if inner.gate is not None else {})
        tensors = {name: head.weight.detach().cpu().contiguous() for name, head in heads.items()}
        save_file(tensors, folder / HEADS, metadata={"format": "pt"})
        (folder / SPEC).write_text(json.dumps(self.options.model_dump(), indent=1) + "\n", encoding="utf-8")


def head_of(model: str) -> Literal["bt", "gpm"]:
    """The head that ``reward:MODEL?...`` names, by its query or by what is saved in the folder; nothing is loaded."""
    name, values = split_query(model.removeprefix(PREFIX), model)
    return (_saved_options(Path(name).expanduser()) or _chosen_options(values, model)).head


def open_reward(settings: PolicySettings) -> RewardPolicy:
    """The policy of ``reward:MODEL?key=value`` (see ``HeadOptions``), or of a folder that such a policy has saved.

    Raises:
        UserError: no such model, one that neither reads nor continues text, or an option out of range.
    """
    return RewardPolicy.load(settings)


def _chosen_options(values: dict[str, str], where: str) -> HeadOptions:
    options = read_options(HeadOptions, values, where)
    odd = sorted(set(values) & {"dim", "gate", "l2"}) if options.head == "bt" else []
    if odd:
        raise UserError(f"{odd[0]} is an option of an embedding", where=where, fix="add head=gpm")
    return options


def _saved_options(folder: Path) -> HeadOptions | None:
    """The head of a saved reward model; ``None`` for any other model."""
    path = folder / SPEC
    if not path.is_file():
        return None
    try:
        return HeadOptions.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UserError(f"is not the description of a head: {error.errors()[0]['msg']}", where=str(path)) from None


def _form(scorer: LanguageScorer, tokenizer: Any, settings: PolicySettings) -> str:
    """``shared`` or ``padded`` for a causal model.

    Raises:
        UserError: its last hidden states cannot be had without its output layer.
    """
    form, reason = choose_form(scorer, tokenizer, settings.encoding)
    if form == "full":
        raise UserError(f"cannot carry a reward head: {reason}", where=settings.model)
    if settings.compile and (reason := compile_checked(scorer, tokenizer, form)):
        warnings.warn(reason, stacklevel=2)
    return form


def _room(settings: PolicySettings, config: Any, tokenizer: Any | None) -> int:
    """The asked length, or the model's where that is shorter; of an encoder what its tokenizer says too, since some count
    positions from above 0."""
    limits = [getattr(config.get_text_config(), "max_position_embeddings", None) or settings.max_length]
    if tokenizer is not None:
        limits.append(int(tokenizer.model_max_length))
    return min(settings.max_length, *limits)


def _leave_out_output_layer(model: Any) -> None:
    """Freeze the output layer, which a reward model does not use; a tied one stays trained as the input layer."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        head.requires_grad_(False)


def _causal_rows(tokens: Sequence[Tokens], form: str) -> dict[str, Any]:
    """The rows of ``rather.policies.forms``, with where each response's and its prompt's last token is."""
    inputs = shared_inputs(tokens) if form == "shared" else padded_inputs(tokens)
    del inputs["positions"], inputs["targets"]
    if form == "padded":
        width = inputs["input_ids"].shape[1]
        spans = [(len(t.prompt), len(r)) for t in tokens for r in t.responses]
        starts = [row * width + prompt - 1 for row, (prompt, _) in enumerate(spans)]
        ends = [start + size for start, (_, size) in zip(starts, spans, strict=True)]
    else:
        starts, ends, offset = [], [], 0
        for t in tokens:
            starts += [offset + len(t.prompt) - 1] * len(t.responses)
            ends += (offset + len(t.prompt) + np.cumsum(t.lengths) - 1).tolist()
            offset += len(t.prompt) + sum(t.lengths)
    return {**inputs, "starts": torch.tensor(starts), "ends": torch.tensor(ends)}
