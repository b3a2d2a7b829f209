"""TRL's ``DPOTrainer`` under measurement: its own ``train``, from given token ids.

``trl default``: the trainer as its configuration comes: bf16, gradient checkpointing, the reference computed in every
step. ``trl best``: reference log-probabilities computed once before training, no checkpointing, glibc's thresholds
raised as ``rather`` raises them; on a GPU also FlashAttention and Liger kernels where they are installed. Both use
TRL's own chunked output layer, which it has no switch for.
"""

from __future__ import annotations

import tempfile
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.job import Job, Result, Timed
from benchmarks.meter import Meter, Positions, count_parameters, timed_forward
from benchmarks.tokens import Ids, read
from rather.policies.models import load_causal_lm, load_tokenizer
from rather.policies.settings import PolicySettings
from rather.training import machine
from rather.training.plan import epoch_order


class Trainer(DPOTrainer):
    """TRL's trainer on rows of token ids, which it would otherwise make itself."""

    def __init__(self, *args: Any, meter: Meter, **options: Any) -> None:
        self.meter = meter
        self.reference: dict[str, float] | None = None
        self.losses: list[torch.Tensor] = []
        super().__init__(*args, **options)

    def _prepare_dataset(self, dataset: Any, *args: Any, **options: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, *args: Any, **options: Any) -> Any:
        start = self.meter.now()
        found = super()._precompute_ref_logps(*args, **options)
        self.reference = self.meter.since(start)
        return found

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(*args, **options)
        self.losses.append(loss.detach())
        return loss


class Watch(TrainerCallback):
    """Marks of the clock at the trainer's steps."""

    def __init__(self, job: Job, meter: Meter, positions: Positions) -> None:
        self.job, self.meter, self.positions = job, meter, positions
        self.trainer: Any = None
        self.steps: list[Timed] = []
        self.memory: dict[str, float] = {}
        self._mark: tuple[float, float] | None = None

    def on_step_begin(self, *args: Any, **options: Any) -> None:
        if self._mark is None:
            self.positions.take()
            self._mark = self.meter.now()

    def on_step_end(self, *args: Any, **options: Any) -> None:
        assert self._mark is not None
        taken = self.meter.since(self._mark)
        self._mark = self.meter.now()
        loss = float(torch.stack(self.trainer.losses).mean())  # micro-batches hold equally many pairs
        self.trainer.losses.clear()
        self.steps.append(Timed(taken["wall"], taken["cpu"], loss, self.positions.take()))
        if len(self.steps) == self.job.total:
            self.memory = self.meter.memory()


def rows(ids: list[Ids]) -> list[dict[str, Any]]:
    """Pairs in the trainer's columns; k rejected answers make k pairs, as it has no lists."""
    return [
        {"prompt_ids": each.prompt, "chosen_ids": each.responses[0], "rejected_ids": rejected}
        for each in ids
        for rejected in each.responses[1:]
    ]


def run(job: Job) -> Result:
    """Train as the job says, in this process."""
    best = job.contender == "trl best"
    meter = Meter()
    notes: list[str] = []
    # The comparisons of each step, in the order in which ``rather`` takes them.
    given = read(job.tokens)
    ids = [given[i] for i in epoch_order(job.seed, 0, len(given))]
    if best and job.allocator:
        machine.prepare_cpu()
    attention = None
    if best and meter.device.type == "cuda" and find_spec("flash_attn"):
        attention = "flash_attention_2"
        notes.append("FlashAttention 2")
    network: Any = load_causal_lm(job.model, "float32", attn_implementation=attention)
    network.to(meter.device)
    meter.loaded()
    positions = Positions(network)
    watch = Watch(job, meter, positions)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            model=network,
            args=_arguments(job, folder, ids, best=best, notes=notes),
            train_dataset=Dataset.from_list(rows(ids)),
            processing_class=load_tokenizer(job.model),
            peft_config=_adapter(job) if job.lora else None,
            callbacks=[watch],
            meter=meter,
        )
        trainer.remove_callback(PrinterCallback)
        watch.trainer = trainer
        trainer.train()
        logps = trainer.train_dataset if best else None
        scoring = _score(trainer, rows(ids[: job.batch]), job) if job.scoring else None
    needed = [sum(each.needed for each in ids[s * job.batch : (s + 1) * job.batch]) for s in range(job.total)]
    return Result(
        steps=watch.steps,
        needed=needed,
        reference=trainer.reference,
        memory=watch.memory,
        scoring=scoring,
        parameters=count_parameters(trainer.model),
        device=str(meter.device),
        reference_logps=list(zip(logps["ref_chosen_logps"], logps["ref_rejected_logps"], strict=True))
        if logps
        else None,
        notes=notes,
    )


def _arguments(job: Job, folder: str, ids: list[Ids], *, best: bool, notes: list[str]) -> DPOConfig:
    pairs = job.batch * ids[0].pairs
    most = job.peer_batch or pairs
    micro = max(size for size in range(1, pairs + 1) if pairs % size == 0 and size <= most)
    if micro < pairs:
        notes.append(f"{pairs // micro} passes of {micro} pairs in a step")
    tuned: dict[str, Any] = {}
    if best:
        tuned = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
        if torch.cuda.is_available() and find_spec("liger_kernel"):
            tuned["use_liger_kernel"] = True
            notes.append("Liger kernels")
    return DPOConfig(
        output_dir=folder,
        beta=job.beta,
        use_cpu=not torch.cuda.is_available(),  # it refuses bf16 without a GPU otherwise
        bf16=job.precision == "bf16",
        max_length=None,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=pairs // micro,
        max_steps=job.total,
        learning_rate=job.learning_rate,
        lr_scheduler_type=job.schedule,
        warmup_steps=0,
        train_sampling_strategy="sequential",
        seed=job.seed,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **tuned,
    )


def _adapter(job: Job) -> LoraConfig:
    """The adapters that ``rather`` makes by default."""
    defaults = PolicySettings.model_validate({"model": job.model})
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=defaults.lora_rank,
        lora_alpha=defaults.lora_alpha,  # type: ignore[arg-type]  # annotated int, used as a number
        lora_dropout=defaults.lora_dropout,
        target_modules=defaults.lora_targets,
    )


def _score(trainer: Trainer, batch: list[dict[str, Any]], job: Job) -> dict[str, dict[str, float]]:
    """Forward passes over the pairs of the first step."""
    columns = [dict(row, ref_chosen_logps=0.0, ref_rejected_logps=0.0) for row in batch]
    model: Any = trainer.model
    size = trainer.args.per_device_train_batch_size
    parts = [
        trainer._prepare_inputs(trainer.data_collator(columns[i : i + size])) for i in range(0, len(columns), size)
    ]

    def training() -> None:
        model.train()
        for part in parts:
            with trainer.compute_loss_context_manager():
                trainer.compute_loss(model, part)

    def scoring() -> None:
        model.eval()
        for part in parts:
            trainer.compute_ref_log_probs(model, part)

    meter = trainer.meter
    return {"train": timed_forward(meter, training), "score": timed_forward(meter, scoring)}
