"""What a study is: a paper's claim as a small experiment with a known truth, and a verdict by a rule fixed beforehand.

A study is one file in this package. Its docstring names the paper and arXiv id, the claim, the world, the baselines, the
verdict rule in words, and which parts are our reading. Below it stand a settings model, ``run(settings, seed)``, the
criteria, and one frozen declaration:

    class Settings(StudySettings):
        pairs: int = Field(2000, ge=1, description="labelled pairs")

    def run(settings: Settings, seed: int) -> Rows:
        ...
        return {"dpo": {"error": 1.6}, "rdpo": {"error": 0.2}}

    STUDY = Study(
        slug="rdpo", title=..., claim=..., source="arXiv 2403.00409", settings=Settings, run=run,
        metrics={"error": "distance to the true parameter"},
        criteria=(
            Criterion("unbiased", "rDPO's error is below a third of DPO's",
                      lambda r: r.ratio("rdpo", "dpo", "error").below(1 / 3)),
            Criterion("biased", "rDPO's error is above a third of DPO's",
                      lambda r: r.ratio("rdpo", "dpo", "error").above(1 / 3), "refutes"),
        ),
        tiny={"pairs": 50},
    )

Nothing else has to know: the registry finds the file, and ``rather study``, the report, the documentation and the tests
read the declaration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rather.errors import UserError, nearest
from rather.studies.results import Finding, Results, Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Role = Literal["must", "refutes", "noted"]
"""``must``: has to be seen for the claim to stand; ``refutes``: the claim falls when it holds; ``noted``: reported,
without a say in the verdict (controls, findings beside the claim)."""

Verdict = Literal["supported", "mixed", "not supported"]


class StudySettings(BaseModel):
    """Settings of a study; every field has a description and can be set by ``--set name=value``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True)
class Criterion:
    """One sentence that the numbers make true or not.

    Attributes:
        name: a few words.
        says: the sentence.
        test: from results to a ``Finding``. ``Results`` makes comparisons paired by seed, whose ``above``, ``below``
            and ``within`` hold only when the whole 95% interval agrees.
        role: what it means for the verdict.
    """

    name: str
    says: str
    test: Callable[[Results], Finding]
    role: Role = "must"


@dataclass(frozen=True)
class Judged:
    """A criterion with what was found."""

    criterion: Criterion
    finding: Finding


def standard_rule(judged: Sequence[Judged]) -> Verdict:
    """Not supported when a refuting criterion holds or no must-criterion does; supported when all musts hold; else
    mixed."""
    refuted = any(one.finding.holds for one in judged if one.criterion.role == "refutes")
    musts = [one.finding.holds for one in judged if one.criterion.role == "must"]
    if refuted or not any(musts):
        return "not supported"
    return "supported" if all(musts) else "mixed"


@dataclass(frozen=True)
class Study:
    """A study, declared.

    Attributes:
        slug: its name; the file has the same with underscores.
        claim: the paper's claim in a sentence or two.
        source: arXiv id.
        settings: the settings model; its defaults are the study.
        run: ``(settings, seed) -> Rows``. Draws everything from ``seed``; all arms share the draws. torch's global
            generator is seeded with it too.
        metrics: metric -> what it is, with its unit; the columns of the table, in this order. A cell may lack some.
        criteria: what was laid down before the numbers were seen.
        tiny: settings under which a seed takes a second; for tests.
        seeds: how many seeds make the study.
        rule: from judged criteria to the verdict; its docstring says it in words.
        plot: draws results on an empty figure, in the colours and fonts that are set; bars by default.
        threads: of torch while a seed runs. One is fastest for small worlds and makes sums the same on every machine;
            ``None`` leaves torch's own number.
        requires: packages beyond the library's own that must be importable.
    """

    slug: str
    title: str
    claim: str
    source: str
    settings: type[StudySettings]
    run: Callable[[Any, int], Rows]
    metrics: Mapping[str, str]
    criteria: tuple[Criterion, ...]
    tiny: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 5
    rule: Callable[[Sequence[Judged]], Verdict] = standard_rule
    plot: Callable[[Results, Figure], None] | None = None
    threads: int | None = 1
    requires: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The docstring of the study's file."""
        module = inspect.getmodule(self.run)
        return inspect.cleandoc(module.__doc__ or "") if module else ""

    def configure(self, values: Mapping[str, Any], tiny: bool = False) -> StudySettings:
        """Validated settings; ``tiny`` starts from the tiny ones.

        Raises:
            UserError: a setting that the study does not have, or a value out of range.
        """
        try:
            return self.settings.model_validate({**(self.tiny if tiny else {}), **values})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                fix = nearest(name, self.settings.model_fields)
                raise UserError(f"study {self.slug!r} has no setting {name!r}", where="--set", fix=fix) from None
            raise UserError(first["msg"], where=f"--set {name}", fix=f"got {first.get('input')!r}") from None

    def judge(self, results: Results) -> tuple[list[Judged], Verdict]:
        """Every criterion with what was found, and the verdict."""
        judged = [Judged(criterion, criterion.test(results)) for criterion in self.criteria]
        return judged, self.rule(judged)
