"""``rather chat RUN``: talk to what a run trained, or to it and the model before training side by side."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rather.errors import UserError

if TYPE_CHECKING:
    from rather.report.run_folder import RunFolder

HELP = "/reset forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C stops an answer."


@dataclass
class Voice:
    """A model in a conversation, with its own memory of it.

    Attributes:
        aside: what to enter while it speaks: for a LoRA run's base, the context with adapters off.
        chat: whether turns go through the chat template; otherwise they are ``Human:``/``Assistant:`` text.
    """

    name: str
    model: Any
    tokenizer: Any
    aside: Any = nullcontext
    chat: bool = True
    seed: int = 0
    messages: list[dict[str, str]] = field(default_factory=list)

    def answer(self, text: str, *, temperature: float, max_new_tokens: int, plain: bool = False) -> Iterator[str]:
        """Pieces of the answer as they come; the turn is remembered once it is complete.

        Args:
            plain: without a chat template, continue ``text`` itself rather than a ``Human:`` turn made of it.

        Raises:
            UserError: the conversation no longer fits the model's context.
        """
        turns = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        for piece in self._stream(self._encode(turns, text if plain else None), temperature, max_new_tokens):
            pieces.append(piece)
            yield piece
        self.messages = [*turns, {"role": "assistant", "content": "".join(pieces).strip()}]

    def _encode(self, turns: list[dict[str, str]], plain: str | None) -> list[int]:
        from rather.policies.rendering import transcript
        from rather.sampling.prompts import encode

        if self.chat:
            return encode(self.tokenizer, turns)
        return encode(self.tokenizer, transcript(turns) + "\n\nAssistant:" if plain is None else plain)

    def _stream(self, ids: list[int], temperature: float, max_new_tokens: int) -> Iterator[str]:
        """Generate in a thread and hand out text; a consumer that stops early stops the thread."""
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList, TextIteratorStreamer

        from rather.sampling.choose import Choice, ChoiceProcessor, uniforms
        from rather.sampling.prompts import end_ids

        self._check(ids, max_new_tokens)
        streamer: Any = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        turn = len(self.messages)
        u = uniforms(self.seed, [(turn, 0)], max_new_tokens) if temperature > 0 else None
        ends = end_ids(self.model, self.tokenizer)
        stop = threading.Event()
        failure: list[BaseException] = []

        def work() -> None:
            import torch

            device = next(self.model.parameters()).device
            inputs = torch.tensor([ids], device=device)
            try:
                with torch.no_grad(), self.aside():
                    self.model.generate(
                        input_ids=inputs,
                        attention_mask=torch.ones_like(inputs),
                        generation_config=GenerationConfig(
                            max_new_tokens=max_new_tokens,
                            do_sample=False,
                            eos_token_id=ends or None,
                            pad_token_id=self.tokenizer.pad_token_id,
                        ),
                        logits_processor=LogitsProcessorList([ChoiceProcessor(Choice(u, temperature))]),
                        stopping_criteria=StoppingCriteriaList([_stopped(stop)]),
                        streamer=streamer,
                    )
            except BaseException as error:
                failure.append(error)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from self._until_next_turn(streamer)
        finally:
            stop.set()
            thread.join()
        if failure:
            raise failure[0]

    def _until_next_turn(self, pieces: Any) -> Iterator[str]:
        """Pieces up to where a model without a chat template starts to write the human's next turn."""
        if self.chat:
            yield from pieces
            return
        mark, held = "\n\nHuman:", ""
        for piece in pieces:
            held += piece
            if mark in held:
                yield held.partition(mark)[0]
                return
            # The end of what is held may be the beginning of the mark.
            keep = max((n for n in range(1, len(mark)) if held.endswith(mark[:n])), default=0)
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
        yield held

    def _check(self, ids: list[int], max_new_tokens: int) -> None:
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context is not None and len(ids) + max_new_tokens > context:
            what = (
                f"the conversation's {len(ids)} tokens and {max_new_tokens} new ones exceed the context of {context}"
            )
            raise UserError(what, fix="/reset starts anew; --max-new-tokens shortens answers")


def _stopped(event: threading.Event) -> Any:
    """A stopping criterion that another thread sets."""
    import torch
    from transformers import StoppingCriteria

    class Stopped(StoppingCriteria):
        def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> Any:
            return torch.full((input_ids.shape[0],), event.is_set(), device=input_ids.device, dtype=torch.bool)

    return Stopped()


def voices(run: RunFolder, *, base: bool, seed: int) -> list[Voice]:
    """The trained model, after the base if asked for; a LoRA run's base is the same weights with adapters off."""
    import torch
    from transformers.utils import logging

    from rather.policies.device import inference_device
    from rather.policies.models import load_causal_lm, load_tokenizer, resolve
    from rather.policies.pipelines.files import is_pipeline
    from rather.report.rescore import final_model

    logging.disable_progress_bar()
    folder = final_model(run)
    if is_pipeline(run.path / "model"):
        raise UserError("trained an image pipeline", where=str(run.path), fix="rather chat is for language models")
    if folder.startswith("toy:"):
        raise UserError("trained a toy model", where=str(run.path), fix="rather chat is for language models")
    if folder.startswith("reward:"):
        fix = "rather chat is for language models; rather.rewards.load opens this one"
        raise UserError("trained a reward model, which does not answer", where=str(run.path), fix=fix)
    device = inference_device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    tokenizer = load_tokenizer(folder)
    loaded: Any = load_causal_lm(folder, dtype)
    model = loaded.to(device)
    chat = tokenizer.chat_template is not None and run.config.get("template") != "none"
    trained = Voice("trained", model, tokenizer, chat=chat, seed=seed)
    if not base:
        return [trained]
    before = str(run.config.get("model") or run.model_name)
    if hasattr(model, "disable_adapter") and resolve(before).adapter is None:
        return [Voice("base", model, tokenizer, model.disable_adapter, chat, seed), trained]
    initial: Any = load_causal_lm(before, dtype)
    return [Voice("base", initial.to(device), tokenizer, chat=chat, seed=seed), trained]


def chat(
    run: Annotated[Path, typer.Argument(help="run folder of rather train")],
    prompt: Annotated[str | None, typer.Option(help="answer this one prompt and end")] = None,
    base: Annotated[bool, typer.Option("--base", help="also let the model before training answer")] = False,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most likely token")] = 0.7,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="longest answer, in tokens")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="decides what is drawn")] = 0,
) -> None:
    """Talk to the model that a run trained."""
    from rather.report.run_folder import read_run

    speakers = voices(read_run(run), base=base, seed=seed)
    options: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    if prompt is not None:
        _speak(speakers, prompt, options | {"plain": True})
        return
    typer.echo(HELP)
    while (text := _ask()) is not None:
        if text == "/reset":
            for voice in speakers:
                voice.messages.clear()
            typer.echo("The conversation is forgotten.")
        elif text.startswith("/"):
            typer.echo(HELP)
        elif text:
            try:
                _speak(speakers, text, options)
            except UserError as error:
                typer.echo(str(error), err=True)
            except KeyboardInterrupt:
                typer.echo("\n(stopped; this turn is forgotten)")


def _ask() -> str | None:
    """The next line typed; ``None`` at the end of input or at ``/exit``."""
    with suppress(ImportError):
        import readline  # noqa: F401  # gives input() line editing and history where the platform has it
    try:
        text = input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        return None
    return None if text in ("/exit", "/quit") else text


def _speak(speakers: list[Voice], text: str, options: dict[str, Any]) -> None:
    """Print the answers as they come: side by side in a terminal, one after the other elsewhere."""
    if len(speakers) > 1 and sys.stdout.isatty():
        _side_by_side(speakers, text, options)
        return
    for voice in speakers:
        if len(speakers) > 1:
            typer.echo(f"[{voice.name}]")
        with closing(voice.answer(text, **options)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                typer.echo(piece, nl=False)
                sys.stdout.flush()
        typer.echo()


def _side_by_side(speakers: list[Voice], text: str, options: dict[str, Any]) -> None:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    said = [Text() for _ in speakers]

    def table() -> Table:
        grid = Table(expand=True)
        for voice in speakers:
            grid.add_column(voice.name, ratio=1)
        grid.add_row(*said)
        return grid

    with Live(table(), refresh_per_second=8, vertical_overflow="visible") as live:
        for voice, shown in zip(speakers, said, strict=True):
            with closing(voice.answer(text, **options)) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    shown.append(piece)
                    live.update(table())
