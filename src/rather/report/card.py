"""The model card of a run: ``README.md`` beside the final weights, as the hub reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rather.policies.pipelines.files import PIPELINE, is_pipeline
from rather.report import findings, markdown, results, tables, timesteps
from rather.report.run_folder import RunFolder, read_run

OF_PIPELINE = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
image = pipeline("a caption").images[0]"""

OF_PIPELINE_ADAPTERS = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{base}")
pipeline.load_lora_weights("path/to/this/folder")
image = pipeline("a caption").images[0]"""

OF_REWARD_MODEL = """import rather.rewards

judge = rather.rewards.load("path/to/this/folder")
judge.score(prompt, ["one answer", "another"])
judge.compare(prompt, "one answer", "another")  # probability that the first is preferred"""


def model_card(run_folder: Path) -> str:
    """Markdown with YAML front matter, from what the run has written so far.

    Base model and data set go into the front matter only when they are hub names, since the hub refuses local paths; a
    licence is not claimed. Results are those of ``evaluation.json``; without it the card says that there are none.

    Raises:
        UserError: ``run_folder`` is not a run folder.
    """
    run = read_run(Path(run_folder))
    found = results.rows(run.evaluation, run.model_kind)
    parts = [
        f"---\n{yaml.safe_dump(front_matter(run), sort_keys=False, allow_unicode=True)}---",
        f"# {_title(run)}",
        f"`{run.model_name}` trained by {_method_name(run)} with [rather](https://github.com/rather-ml/rather).",
        _results(run, found),
        _use(run),
        _training(run),
        _citation(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(run: RunFolder) -> dict[str, Any]:
    """The card's metadata: what is not known is left out."""
    lora = bool(setting(run, "lora"))
    kind = str(setting(run, "kind") or "language")
    matter: dict[str, Any] = {}
    if _hub_name(base := run.model_name.removeprefix("image:")):
        matter["base_model"] = base
    datasets = [name for name in data_names(run) if _hub_name(name)]
    if datasets:
        matter["datasets"] = datasets
    matter["library_name"] = "peft" if lora else "transformers" if kind == "language" else "rather"
    if is_pipeline(run.path / "model"):
        matter["library_name"], matter["pipeline_tag"] = "diffusers", "text-to-image"
    if kind == "language":
        matter["pipeline_tag"] = "text-generation"
    if run.is_reward_model:
        matter["library_name"], matter["pipeline_tag"] = "rather", "text-classification"
    name = run.method.get("name")
    matter["tags"] = ["rather", "preference-optimization", *([str(name)] if name else []), *(["lora"] if lora else [])]
    return matter


def setting(run: RunFolder, name: str) -> Any:
    """A setting by name, from ``run.json``'s model, the configuration, or one of the configuration's sections."""
    model = run.run.get("model")
    sections = [model, run.config, *run.config.values()]
    return next((part[name] for part in sections if isinstance(part, Mapping) and part.get(name) is not None), None)


def data_names(run: RunFolder) -> list[str]:
    """What the training data was called: files, folders or hub names."""
    summary = run.run.get("data")
    train = summary.get("train", summary) if isinstance(summary, Mapping) else {}
    tables_ = [train, run.config.get("data"), run.config]
    for table in tables_:
        if isinstance(table, str | list):
            return [str(item) for item in table] if isinstance(table, list) else [table]
        if isinstance(table, Mapping):
            for key in ("path", "paths", "source", "data", "train", "name"):
                value = table.get(key)
                if isinstance(value, str | list) and value:
                    return [str(item) for item in value] if isinstance(value, list) else [value]
    return []


def _hub_name(name: str) -> bool:
    """``owner/name`` that is no path here and no file."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not name.startswith(".") and not Path(name).exists()


def _method_name(run: RunFolder) -> str:
    return str(run.method.get("title") or run.method.get("name") or "preference optimization")


def _title(run: RunFolder) -> str:
    base = run.model_name.rstrip("/").rsplit("/", 1)[-1]
    return f"{base}, {run.method.get('name') or 'preference-optimized'}"


def _results(run: RunFolder, found: list[results.Row]) -> str:
    if not found:
        return "## Results\n\nNo held-out evaluation was made."
    lines = ["## Results", " ".join(findings.verdict(run, found).sentences), "Ranges are 95% intervals."]
    table = ["| Measure | Before | After |", "|---|---:|---:|"]
    for row in found:
        cells = [row.label, *(_cell(value, row.share) for value in (row.before, row.after))]
        table.append("| " + " | ".join(_in_table(cell) for cell in cells) + " |")
    along = timesteps.section(run)
    by_timestep = ["### By timestep", along.note, "\n".join(markdown.table(*along.table))] if along else []
    return "\n\n".join([*lines, "\n".join(table), *by_timestep])


def _cell(value: results.Estimate | None, share: bool) -> str:
    if value is None:
        return "–"
    interval = value.interval(share)
    return f"{value.text(share)} ({interval})" if interval else value.text(share)


def _use(run: RunFolder) -> str:
    if run.is_reward_model:
        return f"## Use\n\n{_fenced(OF_REWARD_MODEL, 'python')}"
    if is_pipeline(run.path / "model"):
        whole = (run.path / "model" / PIPELINE).is_file()
        code = OF_PIPELINE if whole else OF_PIPELINE_ADAPTERS.format(base=run.model_name.removeprefix("image:"))
        return f"## Use\n\n{_fenced(code, 'python')}"
    matter = front_matter(run)
    if matter["library_name"] == "transformers":
        loaded = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        model = 'AutoModelForCausalLM.from_pretrained("path/to/this/folder")'
    elif matter["library_name"] == "peft":
        loaded = "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"
        model = 'AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")'
    else:
        return ""
    tokenizer = 'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")'
    return f"## Use\n\n```python\n{loaded}\n\nmodel = {model}\n{tokenizer}\n```"


def _training(run: RunFolder) -> str:
    parts = ["## Training", f"Method: {_method_name(run)}."]
    if run.method.get("source"):
        parts[-1] += f" Source: {run.method['source']}."
    if run.method.get("equation"):
        parts.append(_fenced(str(run.method["equation"])))
    options = tables.method(run)
    if options:
        parts.append("Options: " + ", ".join(f"{name} {value}" for name, value in options) + ".")
    names = data_names(run)
    if names:
        parts.append("Data: " + ", ".join(f"`{name}`" for name in names) + ".")
    command = run.run.get("command")
    if command:
        text = " ".join(map(str, command)) if isinstance(command, list) else str(command)
        parts += ["Command:", _fenced(text, "sh")]
    known = tables.versions(run)
    if known:
        parts.append("Versions: " + ", ".join(f"{name} {value}" for name, value in known) + ".")
    return "\n\n".join(parts)


def _citation(run: RunFolder) -> str:
    citation = run.method.get("citation")
    return f"## Citation\n\n{_fenced(str(citation).strip(), 'bibtex')}" if citation else ""


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backquotes inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _in_table(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
