"""Content as a hash: ids that do not depend on the order of rows, and the fingerprint of a data set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from rather.data.types import Comparison


def canonical(value: Any) -> bytes:
    """A value as bytes, equal for equal content: sorted keys, tuples as lists, binary values by their hash."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if hasattr(value, "tolist"):  # arrays and tensors
        return value.tolist()
    if hasattr(value, "tobytes"):  # images
        return {"sha256": hashlib.sha256(value.tobytes()).hexdigest()}
    return str(value)


def digest(value: Any) -> int:
    """64 bits of a value's hash: small enough to hold one for each row of a large file."""
    return int.from_bytes(hashlib.blake2b(canonical(value), digest_size=8).digest(), "big")


def content_id(comparison: Comparison) -> str:
    """Twenty hexadecimal digits of SHA-256 over prompt, responses, order, marks and annotator.

    Two annotators who judge the same pair give two different comparisons: both votes count.
    """
    order = [(edge.winner, edge.loser) for edge in comparison.edges]
    said = [comparison.prompt, comparison.responses, order, comparison.desirable]
    if (annotator := comparison.extras.get("annotator")) is not None:
        said.append(annotator)
    return hashlib.sha256(canonical(said)).hexdigest()[:20]


def whole(comparison: Comparison) -> bytes:
    """Everything a comparison says but its place: what a fingerprint is made of."""
    edges = [(e.winner, e.loser, e.weight, e.probability, e.margin) for e in comparison.edges]
    said = [comparison.id, comparison.prompt, comparison.responses, edges, comparison.desirable, comparison.scores]
    further = [asdict(item) for item in comparison.auxiliary]
    return hashlib.sha256(canonical([*said, dict(comparison.extras), *further])).digest()
