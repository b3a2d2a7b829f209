"""A method from another installed package: found by its entry point, listed, usable, checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rather.errors import UserError
from rather.methods import registry

SOURCE = '''
"""Cubic hinge, for illustration of a package of its own, arXiv 2305.18290 with another link: max(0, 1 - z)^3."""
import torch
from pydantic import Field
from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import MarginLink

class Cubic(MarginLink):
    def __init__(self, wide):
        super().__init__()
        self.wide = wide
    def curve(self, z):
        return torch.relu(self.wide - z) ** 3

class Options(PairOptions):
    wide: float = Field(1.0, gt=0, description="margin beyond which there is no loss")

def build(options):
    return pairwise(options, Cubic(options.wide))

METHOD = Method(name="cubic", title="Cubic hinge", equation="max(0, wide - beta h)^3",
                source="arXiv 2305.18290", options=Options, build=build, aliases=("cube",))
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as ``pip install`` leaves it: the module and its ``dist-info``."""
    (tmp_path / "cubic_preferences.py").write_text(SOURCE)
    info = tmp_path / "cubic_preferences-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cubic-preferences\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rather.methods]\ncubic = cubic_preferences:METHOD\n")
    return tmp_path


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_it_is_listed(site: Path) -> None:
    done = run(site, "-m", "rather", "methods", "--json")
    assert done.returncode == 0, done.stderr
    cards = {card["name"]: card for card in json.loads(done.stdout)}
    assert cards["cubic"]["equation"] == "max(0, wide - beta h)^3"
    assert {"name": "wide", "default": 1.0, "description": "margin beyond which there is no loss"} in cards["cubic"][
        "options"
    ]


def test_it_works_and_passes_the_public_checks(site: Path) -> None:
    code = """
import torch, rather
from rather.testing import check_method
one = torch.tensor([-1.0, -3.0], dtype=torch.float64)
out = rather.loss("cube", one, -one.flip(0) * 0 - 2, one * 0 - 2, one * 0 - 2, beta=1.0, wide=1.5)
print(out.per_pair.tolist())
check_method(rather.get_method("cubic"))
"""
    done = run(site, "-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx([0.5**3, 2.5**3])


@pytest.fixture
def here(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same package on this process's own path."""
    monkeypatch.syspath_prepend(str(site))
    registry.methods.cache_clear()
    yield site
    registry.methods.cache_clear()
    sys.modules.pop("cubic_preferences", None)


def test_a_name_that_exists_is_refused(here: Path) -> None:
    (here / "cubic_preferences.py").write_text(SOURCE.replace('name="cubic"', 'name="dpo"'))
    with pytest.raises(UserError, match="method 'dpo' exists already"):
        registry.methods()


def test_an_alias_that_exists_is_refused(here: Path) -> None:
    (here / "cubic_preferences.py").write_text(SOURCE.replace('"cube"', '"robust"'))
    with pytest.raises(UserError, match="'robust' is a name of 'rdpo' already"):
        registry.methods()


def test_something_else_than_a_method_is_refused(here: Path) -> None:
    (here / "cubic_preferences.py").write_text("METHOD = 3\n")
    with pytest.raises(UserError, match="entry point 'cubic': is not a rather Method but int"):
        registry.methods()


def test_a_package_that_does_not_import_is_named(here: Path) -> None:
    (here / "cubic_preferences.py").write_text("import no_such_module_at_all\n")
    with pytest.raises(UserError, match=r"entry point 'cubic': .*no_such_module_at_all"):
        registry.methods()
