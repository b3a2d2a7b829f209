"""The import graph: arrows never point up, no cycles, nothing heavy behind `rather --help`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import rather

ROOT = Path(rather.__file__).parent

# From the bottom up; a package imports from its own layer and those before it. Packages on one line are one layer.
LAYERS = [
    ("errors", "paths", "progress", "stats"),
    ("data", "worlds"),
    ("logic",),
    ("objectives",),
    ("policies",),
    ("sampling",),
    ("rewards",),
    ("training", "report", "methods"),
    ("functional", "testing"),
    ("inspection",),
    ("studies",),
    ("cli",),
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, lazily too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name.startswith("rather.")}


def graph() -> dict[str, set[str]]:
    return {module_name(path): imports(path) for path in sorted(ROOT.rglob("*.py"))}


def test_every_top_level_name_has_a_layer() -> None:
    names = {
        p.stem if p.is_file() else p.name for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert names - {"__init__", "__main__"} <= set(RANK)


def test_no_arrow_points_up() -> None:
    wrong = []
    for module, targets in graph().items():
        parts = module.split(".")
        if len(parts) < 2 or parts[1] == "__main__":
            continue
        for target in targets:
            layer = target.split(".")[1]
            if layer in RANK and RANK[layer] > RANK[parts[1]]:
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycle() -> None:
    modules = graph()
    edges = {name: {t for t in targets if t in modules and t != name} for name, targets in modules.items()}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for target in sorted(edges[name]):
            walk(target, (*path, name))
        done.add(name)

    for name in sorted(edges):
        walk(name, ())


def test_command_line_starts_without_heavy_imports() -> None:
    code = (
        "import sys; import rather, rather.cli.main; "
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib', 'accelerate', 'peft'} & set(sys.modules); "
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_unsafe_deserialisation() -> None:
    unsafe = {"torch.load", "pickle.load", "pickle.loads", "yaml.load", "eval", "exec"}
    wrong = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in unsafe:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {ast.unparse(node.func)}")
    assert not wrong, "\n".join(wrong)
