"""Reference scores on disk: computed once, found again by what they were computed from.

A folder stands for everything that decides a score (the policy's fingerprint, whether adapters were off, the device's
kind); inside it an entry is found by the content of its comparison. So another model, template, length or numeric type
looks in another folder, changed data misses, and nothing that is stale can be found.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rather.errors import UserError
from rather.objectives.scores import Scores
from rather.policies.base import Batch, Draw, Encoded, Policy
from rather.policies.packaged import cache_dir
from rather.training import ranks
from rather.training.plan import share
from rather.training.references import Still, scoring_mode
from rather.training.split import content_key

VERSION = "1"  # of the shards' format
FLUSH_SECONDS = 60.0

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(what, total) -> a progress bar that takes advances."""


@dataclass(frozen=True)
class Entry:
    """Scores of one comparison's elements, grouped by response in order.

    Attributes:
        elements: [E] float32.
        counts: [R] elements of each response.
        extras: further [E] values that are floating point (token ids and the like are the policy's own as well).
    """

    elements: Tensor
    counts: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


class Cached(Still):
    """Reference scores looked up by example id."""

    kind = "cached"

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def score(self, batch: Batch, draw: Draw) -> Scores:
        found = [self.entries[identifier] for identifier in batch.ids]
        device = batch.layout.lengths.device
        counts = torch.cat([entry.counts for entry in found])
        response = torch.repeat_interleave(torch.arange(counts.numel()), counts)
        extras = {name: torch.cat([entry.extras[name] for entry in found]).to(device) for name in found[0].extras}
        elements = torch.cat([entry.elements for entry in found])
        return Scores(elements.to(device), response.to(device), extras)


def build_cached(
    learner: nn.Module,
    policy: Policy,
    encoded: Sequence[Encoded],
    *,
    fingerprint: str,
    device: torch.device,
    max_cost: int,
    progress: Progress,
) -> tuple[Cached, int]:
    """The cached reference of these comparisons, and how many of them had to be computed.

    Call it before any training: the learner's weights are the reference's. With several processes each computes a
    part.

    Args:
        fingerprint: the policy's, taken before its network was wrapped.
    """
    adapters = policy.adapters_off(policy.network) is not None
    identity = f"{VERSION}|{fingerprint}|{'adapters off' if adapters else 'whole'}|{device.type}"
    folder = cache_dir() / "references" / hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    keys = {item.comparison.id: content_key(item.comparison) for item in encoded}
    store = Store(folder, identity)
    known = ranks.from_first(sorted(store.read(_wanted(encoded, keys))))
    known = set(known)
    missing = [i for i, item in enumerate(encoded) if keys[item.comparison.id] not in known]
    if missing:
        _compute(learner, policy, encoded, missing, keys, store, device=device, max_cost=max_cost, progress=progress)
        ranks.barrier()
    found = store.read(_wanted(encoded, keys))
    absent = [item.comparison.id for item in encoded if keys[item.comparison.id] not in found]
    if absent:
        what = f"{len(absent)} reference scores are not there that another process wrote"
        raise UserError(what, where=str(folder), fix="set RATHER_CACHE to a folder that all machines share")
    return Cached({identifier: found[key] for identifier, key in keys.items()}), len(missing)


def _wanted(encoded: Iterable[Encoded], keys: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    return {keys[item.comparison.id]: tuple(item.lengths) for item in encoded}


def _compute(
    learner: nn.Module,
    policy: Policy,
    encoded: Sequence[Encoded],
    missing: Sequence[int],
    keys: Mapping[str, str],
    store: Store,
    *,
    device: torch.device,
    max_cost: int,
    progress: Progress,
) -> None:
    costs, buckets = [item.cost for item in encoded], [item.bucket for item in encoded]
    # Neighbours of like cost share a pass, and each pass ends in a shard, so an interrupted computation is not lost.
    plan = share(missing, costs, ranks.rank(), ranks.world_size(), max_cost, None, buckets)
    pending: dict[str, Entry] = {}
    last = time.monotonic()
    with progress("reference scores", sum(len(micro.indices) for micro in plan if not micro.idle)) as advance:
        for micro in plan:
            items = [encoded[index] for index in micro.indices]
            batch = policy.collate(items).to(device)
            with torch.no_grad(), scoring_mode(learner), policy.adapters_off(policy.network) or nullcontext():
                scores = learner(batch, None).detach()
            if micro.idle:
                continue
            for item, entry in zip(items, split(scores, batch), strict=True):
                pending[keys[item.comparison.id]] = entry
            advance(len(items))
            if time.monotonic() - last > FLUSH_SECONDS:
                store.write(pending)
                pending, last = {}, time.monotonic()
    store.write(pending)


def split(scores: Scores, batch: Batch) -> list[Entry]:
    """The entries of a batch's comparisons.

    Raises:
        ValueError: elements are not grouped by response, so they could not be found again in the same order.
    """
    response = scores.response.cpu()
    if response.numel() and bool((response.diff() < 0).any()):
        raise ValueError("the policy's elements are not in the order of their responses, so they cannot be cached")
    counts = torch.bincount(response, minlength=batch.layout.responses)
    responses = torch.bincount(batch.layout.prompt.cpu(), minlength=len(batch.ids)).tolist()
    by_comparison = counts.split(responses)
    sizes = [int(part.sum()) for part in by_comparison]
    elements = scores.elements.float().cpu().split(sizes)
    extras = {n: values.cpu().split(sizes) for n, values in scores.extras.items() if values.is_floating_point()}
    return [
        Entry(elements[i].clone(), part, {name: parts[i].clone() for name, parts in extras.items()})
        for i, part in enumerate(by_comparison)
    ]


class Store:
    """Shards of entries in one folder; each shard is written beside and renamed."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def write(self, entries: Mapping[str, Entry]) -> None:
        if not entries:
            return
        keys = sorted(entries)
        values = [entries[key] for key in keys]
        tensors = {
            "elements": torch.cat([value.elements for value in values]),
            "counts": torch.cat([value.counts for value in values]),
            "responses": torch.tensor([value.counts.numel() for value in values]),
        }
        for name in values[0].extras:
            tensors[f"extras/{name}"] = torch.cat([value.extras[name] for value in values])
        name = hashlib.blake2b("".join(keys).encode(), digest_size=12).hexdigest()
        partial = self.folder / f".{name}.{os.getpid()}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata={"identity": self.identity, "keys": json.dumps(keys)})
            os.replace(partial, self.folder / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            fix = "free space or set RATHER_CACHE to another folder; or use --reference frozen"
            raise UserError(f"reference scores cannot be saved: {error}", where=str(self.folder), fix=fix) from error

    def read(self, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Entry]:
        """Entries by key, of those wanted, whose responses have the wanted lengths; unreadable shards are passed
        over."""
        found: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                found.update(self._shard(path, wanted))
            except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
                continue  # cut short by a full disk or by hand: computed again
        return found

    def _shard(self, path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Entry]:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("identity") != self.identity:
            return {}
        keys = json.loads(metadata["keys"])
        if not any(key in wanted for key in keys):
            return {}
        tensors = load_file(path)
        by_comparison = tensors["counts"].split(tensors["responses"].tolist())
        sizes = [int(part.sum()) for part in by_comparison]
        elements = tensors["elements"].split(sizes)
        extras = {n.removeprefix("extras/"): t.split(sizes) for n, t in tensors.items() if n.startswith("extras/")}
        entries: dict[str, Entry] = {}
        for i, key in enumerate(keys):
            if wanted.get(key) == tuple(by_comparison[i].tolist()):
                entries[key] = Entry(elements[i], by_comparison[i], {name: parts[i] for name, parts in extras.items()})
        return entries
