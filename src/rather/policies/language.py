"""Language models as policies: log-probabilities of response tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rather.data.types import Comparison
from rather.errors import UserError
from rather.objectives.scores import Layout, Scores
from rather.objectives.token_weights import Weigh
from rather.policies.activations import decoder_layers, kinds
from rather.policies.base import Batch, Draw, Encoded
from rather.policies.checkpointing import checkpoint_layers
from rather.policies.encoding_report import EncodingReport
from rather.policies.fingerprint import fingerprint
from rather.policies.forms import padded_inputs, shared_inputs
from rather.policies.lora import REFERENCE, add_lora, before_training, keep_reference_adapter
from rather.policies.operations import Operations
from rather.policies.pieces import weighed
from rather.policies.precision import cast_once, compute_dtype
from rather.policies.rendering import Unusable
from rather.policies.scored import OF_STATES
from rather.policies.scorer import LanguageScorer, unwrap
from rather.policies.selfcheck import choose_form, compile_checked
from rather.policies.settings import PolicySettings
from rather.policies.tokenization import TextEncoder, Tokens
from rather.policies.work import Work


class LanguagePolicy:
    """A causal language model that scores responses token by token.

    The prompt is encoded once for all its responses where the architecture allows it (found out once, by comparing
    with the plain way on a tiny batch), the output layer sees response positions only, in chunks.

    Args:
        network: a causal language model of transformers, or a ``PeftModel`` around one; weights in float32.
        tokenizer: its tokenizer, with a pad token.
        settings: template, lengths, precision, encoding.

    Attributes:
        network: the trained module; its forward pass is the score, so it may be wrapped.
        form: ``shared``, ``padded`` or ``full``; how batches are laid out.
        provides: the extras that need body and head apart are left out in the ``full`` form.
        report: what the latest ``encode`` call did.
    """

    kind = "language"

    def __init__(self, network: nn.Module, tokenizer: Any, settings: PolicySettings) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.report = EncodingReport()
        disable_dropout(network)
        device = next(network.parameters()).device
        self.network: nn.Module = LanguageScorer(network, compute_dtype(settings.precision, device))
        lm = self._scorer.causal_lm
        if settings.gradient_checkpointing:
            checkpoint_layers(lm, settings.checkpoint_share)
        self.encoder = TextEncoder(
            tokenizer,
            template=settings.template,
            max_length=_max_length(settings, lm.config),
            truncation=settings.truncation,
            end_ids=_end_ids(lm),
        )
        self._fingerprint = fingerprint(self._scorer, self.encoder)
        self._operations: Operations | None = None
        self.form, reason = choose_form(self._scorer, tokenizer, settings.encoding)
        if reason:
            warnings.warn(reason, stacklevel=2)
        if settings.compile and (reason := compile_checked(self._scorer, tokenizer, self.form)):
            warnings.warn(reason, stacklevel=2)
        self.provides = frozenset({"likelihood", "tokens", "auxiliary", "weight"})
        if self.form != "full":
            self.provides |= OF_STATES if decoder_layers(lm) else OF_STATES - {"layers", "activations"}

    @classmethod
    def load(cls, settings: PolicySettings, *, seed: int = 0) -> LanguagePolicy:
        """Load what ``settings.model`` names.

        An adapter folder is trained further; its reference is the model with that adapter as it was loaded.

        Args:
            seed: of a fresh adapter's random factor.
        """
        from rather.policies.models import load_causal_lm, load_tokenizer, resolve

        at = resolve(settings.model)
        trust = settings.trust_remote_code
        model = load_causal_lm(at, "float32", trust_remote_code=trust, adapter_trainable=True)
        if at.adapter is not None:
            keep_reference_adapter(model, at.adapter)
        elif settings.lora:
            model = add_lora(model, settings, seed=seed)
        return cls(model, load_tokenizer(at, trust_remote_code=trust), settings)

    @property
    def _scorer(self) -> LanguageScorer:
        return unwrap(self.network)

    @property
    def model(self) -> Any:
        """The causal language model (or ``PeftModel``), for generation."""
        return self._scorer.model

    def encode(self, comparisons: Sequence[Comparison], *, weigh: Weigh | None = None) -> list[Encoded]:
        """Token ids of comparisons, in order; what could not be used is in ``self.report``, made anew each call.

        The cost of a comparison is the number of tokens that its forward pass computes.

        Args:
            weigh: gives the tokens of the compared responses their ``weight``.
        """
        self.report = EncodingReport()
        encoded = []
        for comparison, parts in self.encoder.encode(comparisons, self.report):
            if weigh is not None:
                try:
                    parts = (weighed(self.tokenizer, comparison, parts[0], weigh), *parts[1:])
                except Unusable as reason:
                    self.report.encoded -= 1
                    self.report.drop(str(comparison.source or comparison.id), str(reason))
                    continue
            lengths = tuple(n for tokens in parts for n in tokens.lengths)
            encoded.append(Encoded(comparison, lengths, sum(map(self._cost, parts)), parts))
        return encoded

    def _cost(self, tokens: Tokens) -> int:
        prompts = 1 if self.form == "shared" else len(tokens.responses)
        return prompts * len(tokens.prompt) + sum(tokens.lengths)

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        """A batch in the given order. ``inputs`` holds what the network's forward takes, and ``response`` [E]."""
        tokens = [tokens for e in encoded for tokens in e.inputs]
        layout = Layout.of([e.comparison for e in encoded], [size for e in encoded for size in e.lengths])
        inputs = shared_inputs(tokens) if self.form == "shared" else padded_inputs(tokens)
        response = torch.repeat_interleave(torch.arange(layout.responses), layout.lengths)
        ids = tuple(e.comparison.id for e in encoded)
        return Batch(layout, {"form": self.form, "response": response, **inputs}, ids)

    def draw(self, batch: Batch, seed: int) -> Draw:
        """Nothing: the likelihood of a text is not random."""
        return None

    def score(
        self,
        network: nn.Module,
        batch: Batch,
        draw: Draw,
        *,
        wants: frozenset[str] = frozenset(),
        reference: Scores | None = None,
    ) -> Scores:
        """Log-probability of every response token, in nats; ``extras["ids"]`` are the tokens.

        Args:
            network: ``self.network``, a copy of it, or either wrapped.
            wants: further extras, of ``provides``.
            reference: scores with ``states`` and ``head``, for ``kl``.
        """
        inputs = {name: value for name, value in batch.inputs.items() if name not in ("response", "weight")}
        if reference is not None and "kl" in wants:
            inputs["reference"] = (reference.extras["states"], reference.head)
        logps, found = network(wants=wants, **inputs)
        extras = {"ids": batch.inputs["targets"], **found}
        if "weight" in wants:
            ones = torch.ones_like(logps, dtype=torch.float32)
            extras["weight"] = batch.inputs.get("weight", ones)
        head = unwrap(network).logits if "states" in wants else None
        return Scores(logps.float(), batch.inputs["response"], extras, head)

    def work(self, encoded: Sequence[Encoded], batch: Batch) -> Work:
        """Positions computed and needed, and operations, of a forward and backward pass over a batch."""
        if self._operations is None:
            self._operations = Operations.of(self._scorer)
        needed = sum(len(tokens.prompt) + sum(tokens.lengths) for e in encoded for tokens in e.inputs)
        computed, elements = batch.inputs["input_ids"].numel(), batch.inputs["targets"].numel()
        dtype = self._scorer.dtype
        if dtype == torch.float32:
            dtype = next(self.network.parameters()).dtype
        return self._operations.work(computed, needed, elements, dtype)

    def facts(self) -> dict[str, Any]:
        """Of the model: ``width`` of a state, number of ``layers``, kinds of the columns of ``activations``."""
        lm = self._scorer.causal_lm
        return {
            "width": int(lm.config.get_text_config().hidden_size),
            "layers": len(decoder_layers(lm)),
            "activations": kinds(lm),
        }

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """A context for generation with ``model``: in the number type of scoring."""
        dtype = self._scorer.dtype
        device = next(self.network.parameters()).device.type
        low = dtype != torch.float32
        with torch.autocast(device, dtype, enabled=low), cast_once(self.model, dtype) if low else nullcontext():
            yield

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        """A context in which ``network`` is the model as it was loaded; ``None`` without adapters."""
        model = unwrap(network).model
        return before_training(model) if hasattr(model, "peft_config") else None

    def fingerprint(self) -> str:
        """Hash of the weights at construction (a fresh adapter does not count), template, lengths and type."""
        return self._fingerprint

    def save(self, network: nn.Module, folder: Path) -> None:
        """Write model (or adapter) and tokenizer as transformers (or peft) load them; safetensors."""
        model: Any = unwrap(network).model
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if hasattr(model, "peft_config"):
            names = [name for name in model.peft_config if name != REFERENCE]
            model.save_pretrained(folder, selected_adapters=names)
        else:
            model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def disable_dropout(network: nn.Module) -> None:
    """Set every dropout of the model to zero, except an adapter's own.

    Policy and reference would otherwise differ by noise, and a margin is a small difference of large sums.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        for attribute in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)


def _max_length(settings: PolicySettings, config: Any) -> int:
    """The asked length, or the model's context where that is shorter."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and context < 2:
        raise UserError(f"the model's context is {context} tokens", where=settings.model)
    return min(settings.max_length, int(context)) if context else settings.max_length


def _end_ids(lm: Any) -> list[int]:
    ends: list[int] = []
    for config in (lm.config, getattr(lm, "generation_config", None)):
        value = getattr(config, "eos_token_id", None)
        ends += value if isinstance(value, list) else [] if value is None else [value]
    return [int(end) for end in np.unique(ends)]
