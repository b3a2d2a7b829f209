"""Build the instruction world's preference pairs from a model's own answers.

``python -m rather.sampling.instruction_pairs --out FOLDER`` composes the prompts, samples answers, half of them under
a guide that helps them to obey, lets the checkers label all, and writes prompts, pairs and a summary. Answers are kept
in ``FOLDER/answers``: the same command goes on where it was stopped. The embedded files were made by this
command with its defaults.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rather.data.parts import write_whole
from rather.errors import UserError
from rather.worlds.instructions.guides import Guide, guide
from rather.worlds.instructions.load import FILES
from rather.worlds.instructions.pairs import Answer, describe_pairs, pairs_of
from rather.worlds.instructions.prompts import DEFAULT_SEED, compose
from rather.worlds.instructions.scoring import pass_rate

_EVAL_SHIFT = 1_000_000  # keeps the seeds of held-out chunks apart from those of training chunks


@dataclass(frozen=True)
class Settings:
    """What the files depend on.

    Attributes:
        n: answers to each prompt.
        guided: how many of them are sampled under the prompt's guide, so that more of them obey.
        chunk: prompts sampled at once; the unit that is never repeated after an interruption.
        threads: 0 leaves torch's choice.
    """

    model: str = "smollm2-135m"
    dtype: str = "float32"
    train: int = 720
    heldout: int = 160
    n: int = 4
    guided: int = 2
    max_new_tokens: int = 48
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int = DEFAULT_SEED
    chunk: int = 16
    threads: int = 2


class Sampler:
    """Samples in chunks, each kept on disk under the settings that made it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self._loaded: tuple[Any, Any] | None = None
        self._vocabulary: list[str] | None = None

    def answers(self, name: str, records: Sequence[dict[str, Any]], shift: int, *, greedy: bool) -> list[list[Answer]]:
        """Answers to the records in order: ``n`` of each, or the greedy one."""
        from rich.console import Console
        from rich.progress import track

        size = self.settings.chunk * (self.settings.n if greedy else 1)
        starts = range(0, len(records), size)
        found: list[list[Answer]] = []
        for start in track(starts, description=name, console=Console(stderr=True)):
            path = self.folder / f"{name}-{start:05d}.json"
            found += self._chunk(path, records[start : start + size], shift + start, greedy=greedy)
        return found

    def _chunk(self, path: Path, records: Sequence[dict[str, Any]], seed: int, *, greedy: bool) -> list[list[Answer]]:
        key = {**asdict(self.settings), "ids": [record["id"] for record in records], "texts": _texts(records)}
        for irrelevant in ("train", "heldout", "threads"):
            key.pop(irrelevant)
        if path.is_file() and (kept := json.loads(path.read_text(encoding="utf-8")))["key"] == key:
            return [[Answer(*answer) for answer in given] for given in kept["answers"]]
        sampled = self._sample(records, seed, greedy=greedy)
        rows = [[(one.text, one.finished, one.tokens) for one in given] for given in sampled]
        write_whole(path, json.dumps({"key": key, "answers": rows}, ensure_ascii=False).encode())
        return sampled

    def _sample(self, records: Sequence[dict[str, Any]], seed: int, *, greedy: bool) -> list[list[Answer]]:
        if greedy:
            return self._generate(records, [Guide()] * len(records), seed, n=1, temperature=0.0)
        # One call for both halves: a guided answer is a sample of its own, with randomness of its own.
        alone = self.settings.n - self.settings.guided
        twice = [record for record in records for _ in range(2)]
        guides = [one for record in records for one in (Guide(), guide(record))]
        most = max(alone, self.settings.guided)
        found = self._generate(twice, guides, seed, n=most, temperature=self.settings.temperature)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [own[:alone] + helped[: self.settings.guided] for own, helped in pairs]

    def _generate(
        self, records: Sequence[dict[str, Any]], guides: Sequence[Guide], seed: int, *, n: int, temperature: float
    ) -> list[list[Answer]]:
        from rather.sampling.generate import generate
        from rather.sampling.prompts import encode

        model, tokenizer = self._model()
        prompts = [
            encode(tokenizer, record["prompt"]) + tokenizer(one.prefix, add_special_tokens=False).input_ids
            for record, one in zip(records, guides, strict=True)
        ]
        samples = generate(
            model,
            tokenizer,
            prompts,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=temperature,
            top_p=self.settings.top_p,
            n=n,
            seed=self.settings.seed * 10 * _EVAL_SHIFT + seed,
            batch_size=self.settings.chunk * self.settings.n,
            token_budget=None,
            banned=[self._banned(one.forbidden) for one in guides],
        )
        return [
            [Answer(one.finish(sample.text), sample.finished, len(sample.ids)) for sample in given]
            for one, given in zip(guides, samples, strict=True)
        ]

    def _banned(self, characters: frozenset[str]) -> Any:
        """[vocab], true for tokens with one of the characters."""
        import torch

        if not characters:
            return None
        return torch.tensor([not characters.isdisjoint(text) for text in self._texts()])

    def _texts(self) -> list[str]:
        """What each token of the vocabulary reads as."""
        if self._vocabulary is None:
            model, tokenizer = self._model()
            ids = [[i] for i in range(model.config.vocab_size)]
            self._vocabulary = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return list(self._vocabulary or [])

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch

            from rather.policies.models import load_causal_lm, load_tokenizer

            if self.settings.threads:
                torch.set_num_threads(self.settings.threads)
            self._loaded = (
                load_causal_lm(self.settings.model, self.settings.dtype),
                load_tokenizer(self.settings.model),
            )
        return self._loaded


def build(settings: Settings, out: Path) -> dict[str, Any]:
    """Write the five files into ``out``; returns the summary.

    Raises:
        UserError: no pair could be formed, the model cannot be loaded, or more answers are to be guided than there are.
    """
    if not 0 <= settings.guided <= settings.n:
        what = f"{settings.guided} of {settings.n} answers cannot be sampled under a guide"
        raise UserError(what, where="--guided", fix="give a number from 0 to --n")
    sampler = Sampler(settings, out / "answers")
    train = [prompt.record() for prompt in compose("train", settings.train, settings.seed)]
    heldout = [prompt.record() for prompt in compose("heldout", settings.heldout, settings.seed)]
    greedy = sampler.answers("greedy", heldout, 0, greedy=True)
    of_heldout = sampler.answers("heldout", heldout, _EVAL_SHIFT, greedy=False)
    of_train = sampler.answers("train", train, 0, greedy=False)
    pairs = {
        "pairs-train": [row for record, given in zip(train, of_train, strict=True) for row in pairs_of(record, given)],
        "pairs-eval": [
            row for record, given in zip(heldout, of_heldout, strict=True) for row in pairs_of(record, given)
        ],
    }
    for name, rows in pairs.items():
        if not rows:
            raise UserError(f"{settings.model} gave no two answers that differ in what they obey", where=name)
    summary = {
        "settings": asdict(settings),
        "pairs": {name: describe_pairs(rows) for name, rows in pairs.items()},
        "finished": {
            "greedy": _finished(greedy),
            "train": _finished(of_train),
        },
        "pass_rates": {
            "heldout_greedy": _rates(heldout, greedy),
            "heldout_sampled": _rates(heldout, of_heldout),
            "train_sampled": _rates(train, of_train),
        },
    }
    for name, rows in {"prompts-train": train, "prompts-heldout": heldout, **pairs}.items():
        write_whole(out / FILES[name], packed(rows))
    write_whole(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def packed(rows: Sequence[dict[str, Any]]) -> bytes:
    """Gzipped JSON lines; the same rows give the same bytes."""
    lines = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    return gzip.compress(lines.encode(), compresslevel=9, mtime=0)


def _texts(records: Sequence[dict[str, Any]]) -> list[str]:
    return [record["prompt"][0]["content"] for record in records]


def _finished(answers: Sequence[Sequence[Answer]]) -> float:
    flat = [answer.finished for given in answers for answer in given]
    return sum(flat) / len(flat)


def _rates(records: Sequence[dict[str, Any]], answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    return pass_rate(records, [[answer.text for answer in given] for given in answers]).summary()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rather.sampling.instruction_pairs", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args(argv))
    out = options.pop("out")
    try:
        summary = build(Settings(**options), out)
    except UserError as error:
        print(error)
        return 2
    print(json.dumps({"pairs": summary["pairs"], "heldout": summary["pass_rates"]["heldout_greedy"]}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
