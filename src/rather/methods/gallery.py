"""The documentation's page of methods, made of their declarations: ``python -m rather.methods.gallery``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rather.errors import UserError
from rather.methods.base import Method, PairOptions
from rather.methods.curve import behaviour, undrawn
from rather.methods.describe import card, docstring, limit, limits, meaning, options
from rather.methods.registry import BUILT_IN
from rather.report.markdown import table
from rather.training.preflight import check_policy

HEAD = """# Methods

Every method that `rather train --method NAME` takes, as the library itself tells it; `rather explain NAME --plot NAME.png`
prints one with its curve. This page is made by `make gallery`.

Needs: what data and policy have to bring. Passes: forward passes over each response in a step, the policy's plus the
reference's; text scores of a reference are computed once and cached.
"""

CROSS = """For images the score is a denoising error, a bound of a likelihood: methods that need true likelihoods are
refused, and those of text that only compare scores run on it, with whatever that means. Tests train every cell of the
first two columns for some steps, a UNet and a transformer for images.
"""


MODELS: dict[str, frozenset[str]] = {
    "language model": frozenset({"likelihood", "tokens", "auxiliary"}),
    "image pipeline, `toy:points`": frozenset({"noising", "rollouts"}),
    "`toy:shop`": frozenset({"likelihood"}),
    "reward model": frozenset({"reward", "embedding", "auxiliary"}),
}
"""Kinds of models, and what their scores are, or are made to be by a method that wants it (``Method.wrap``)."""

OWN = frozenset({"reward", "embedding"})
"""What methods are made for that need it: other methods are not for such a model."""


def trains(method: Method, provides: frozenset[str]) -> bool:
    """Whether the method trains models of this kind; what the data has to bring is another matter."""
    try:
        check_policy(method, "", provides)
    except UserError:
        return False
    if method.objective().noising is not None and "noising" not in provides:
        return False
    return bool(method.needs & OWN) or not provides & OWN


def cross_table() -> list[str]:
    """Methods by kinds of models."""
    cells = [
        [f"[{m.name}](#{m.name})", *("yes" if trains(m, has) else "" for has in MODELS.values())] for m in BUILT_IN
    ]
    return table(("Method", *MODELS), cells)


def page() -> str:
    """The page as Markdown: a table of the library's own methods, then one section for each."""
    known = BUILT_IN
    rows = [(f"[{m.name}](#{m.name})", f"`{m.equation}`", _needs(m), card(m)["passes"], m.source) for m in known]
    sections = [line for method in known for line in _section(method)]
    overview = table(("Method", "Loss of a pair", "Needs", "Passes", "Source"), rows)
    shared = ["", "## Options of every method of pairs", "", *_option_table([*options(PairOptions)])]
    crossed = ["", "## Which models a method trains", "", CROSS, *cross_table()]
    return "\n".join([HEAD, *overview, *crossed, *shared, "", *sections]).rstrip() + "\n"


def _section(method: Method) -> Iterator[str]:
    yield f"## {method.name}\n\n{method.title}.{_also(method)}\n"
    yield f"```text\n{docstring(method)}\n```\n"
    facts = {"Needs": _needs(method), "Passes": card(method)["passes"], "Equals DPO": limit(method)}
    yield from (f"- {name}: {value}" for name, value in facts.items())
    yield from (f"- Equals {said}" for said in limits(method))
    yield from (f"- Does not hold: {name}, since {reason}" for name, reason in method.exceptions.items())
    yield ""
    yield from _bullets("As the margin z of a pair grows:", [] if undrawn(method) else behaviour(method))
    if said := meaning(method):
        yield f"In logic (arXiv 2412.17696):\n\n```text\n{said}\n```\n"
    yield from _options(method)


def _options(method: Method) -> Iterator[str]:
    """The method's own options: those of every method of pairs stand at the top of the page."""
    shared = [*options(PairOptions)] if issubclass(method.options, PairOptions) else []
    own = [one for one in options(method.options) if one not in shared]
    if own:
        yield from _option_table(own)
    if shared:
        yield (
            ("\n" if own else "")
            + "Options: [those of every method of pairs](#options-of-every-method-of-pairs)"
            + (" too." if own else ".")
        )
    yield ""


def _option_table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    def default(one: Mapping[str, Any]) -> str:
        return "" if one["default"] is None else f"`{one['default']}`"

    return table(
        ("Option", "Default", "Meaning"), [(f"`{one['name']}`", default(one), one["description"]) for one in entries]
    )


def _needs(method: Method) -> str:
    return ", ".join(sorted(method.needs))


def _also(method: Method) -> str:
    return f" Also called {', '.join(f'`{name}`' for name in method.aliases)}." if method.aliases else ""


def _bullets(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}\n"
        yield from (f"- {line}" for line in lines)
        yield ""


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(page())
