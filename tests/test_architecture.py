"""The rooms of the package: who may import whom, how long a file may be, and what no file may contain."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "neural_vb"
MAX_LINES = 400

# A room imports only from lower floors, never from its own. A package such as `diagnostics/` is one room.
FLOORS = {
    "_checks": 1,
    "_eight_schools": 0,
    "_mends": 0,
    "_text": 0,
    "_types": 0,
    "_version": 0,
    "part_bijectors": 0,
    "supports": 0,
    "errors": 0,
    "verdicts": 0,
    "_demo_targets": 1,
    "atomic": 1,
    "bending": 1,
    "bijectors": 1,
    "compilation": 1,
    "configuration": 2,
    "draws": 1,
    "gaussian_mixture": 1,
    "hamiltonian": 1,
    "history": 1,
    "joints": 1,
    "mixtures": 1,
    "networks": 1,
    "numpy_densities": 1,
    "optimiser": 1,
    "progress": 1,
    "provenance": 1,
    "psis": 1,
    "ratio_losses": 1,
    "restarting": 1,
    "returned": 1,
    "smoothing": 1,
    "tails": 1,
    "uniformity": 1,
    "warping": 1,
    "contrasts": 2,
    "critics": 2,
    "drawing": 2,
    "density_training": 2,
    "features": 2,
    "gaussian_vi": 2,
    "polish": 2,
    "population": 2,
    "probing": 2,
    "ridges": 2,
    "necks": 2,
    "samplers": 2,
    "smc": 2,
    "targets": 2,
    "whitening": 2,
    "avb": 3,
    "conditional_flows": 3,
    "curving": 3,
    "faults": 3,
    "moving": 3,
    "optima": 3,
    "preflight": 3,
    "priors": 3,
    "particles": 3,
    "warm_start": 4,
    "moments": 3,
    "widening": 3,
    "archives": 4,
    "arguments": 4,
    "binding": 4,
    "evaluation": 4,
    "exporting": 4,
    "families": 4,
    "training": 4,
    "calibration_plots": 5,
    "checkpoints": 5,
    "diagnostics": 5,
    "inference_data": 5,
    "plots": 5,
    "starting": 5,
    "finishing": 5,
    "posterior": 6,
    "resuming": 6,
    "amortized_posterior": 7,
    "fitting": 7,
    "amortized": 8,
    "applications": 8,
    "cli": 8,
    "__init__": 9,
    "__main__": 9,
}
LAZY = ("matplotlib", "arviz", "arviz_base", "arviz_stats", "arviz_plots")  # only inside functions
NEVER = ("keras", "tf_keras", "jax", "numpyro", "torch")
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """neural_vb/diagnostics/summaries.py -> neural_vb.diagnostics.summaries."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """neural_vb.diagnostics.summaries -> diagnostics; neural_vb itself -> __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


MODULES = frozenset(map(module_name, FILES))


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imported modules, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if name in MODULES else source


def top_level_imports(tree: ast.AST) -> Iterator[str]:
    """The same, without what is imported inside functions: what importing the file costs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(node)
        else:
            yield from top_level_imports(node)


def offences(source: str, module: str) -> list[str]:
    """Everything in a file that the house does not allow, in words."""
    tree = ast.parse(source)
    here = room(module)
    found = []
    for name in imports(tree):
        if name.startswith("."):
            found.append(f"relative import {name}")
        if name.split(".")[0] in NEVER:
            found.append(f"imports {name}")
        if name.split(".")[0] == "neural_vb":
            there = room(name)
            if there not in FLOORS or here not in FLOORS:
                found.append(f"{there if here in FLOORS else here} has no floor")
            elif there != here and FLOORS[there] >= FLOORS[here]:
                found.append(f"floor {FLOORS[here]} imports {there} of floor {FLOORS[there]}")
    found += [f"imports {name} at module level" for name in top_level_imports(tree) if name.split(".")[0] in LAZY]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"assert in line {node.lineno}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "tf.keras",
            "tf.random.set_seed",
            "np.random.seed",
        ):
            found.append(f"{ast.unparse(node)} in line {node.lineno}")
    if len(source.splitlines()) > MAX_LINES:
        found.append(f"{len(source.splitlines())} lines")
    if tree.body and "from __future__ import annotations" not in source:
        found.append("no `from __future__ import annotations`")
    return found


def cycle(sources: dict[str, str]) -> list[str] | None:
    """Modules that import each other in a circle; None when there is no circle."""
    edges = {
        module: {name for name in imports(ast.parse(source)) if name in sources and name != module}
        for module, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    assert {room(name) for name in MODULES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_file_keeps_the_rules(path: Path) -> None:
    assert offences(path.read_text(), module_name(path)) == []


@pytest.mark.parametrize("package", sorted({path.parent for path in FILES}), ids=lambda path: path.name)
def test_no_import_cycle_inside_a_package(package: Path) -> None:
    assert cycle({module_name(path): path.read_text() for path in package.rglob("*.py")}) is None


def test_no_file_is_called_utils() -> None:
    assert [path for path in FILES if path.stem in ("utils", "util", "helpers", "misc", "common")] == []


@pytest.mark.parametrize(
    ("source", "module", "offence"),
    [
        ("from neural_vb.fitting import fit", "neural_vb.targets", "floor 2 imports fitting of floor 7"),
        ("from neural_vb import plots", "neural_vb.checkpoints", "floor 5 imports plots of floor 5"),
        ("def f():\n    import neural_vb.fitting", "neural_vb.avb", "floor 3 imports fitting of floor 7"),
        ("import neural_vb.attic", "neural_vb.cli", "attic has no floor"),
        ("import neural_vb", "neural_vb.cli", "floor 8 imports __init__ of floor 9"),
        ("from .errors import DataError", "neural_vb.cli", "relative import .errors"),
        ("import matplotlib.pyplot as plt", "neural_vb.plots", "imports matplotlib.pyplot at module level"),
        ("if True:\n    import arviz", "neural_vb.psis", "imports arviz at module level"),
        ("import keras", "neural_vb.networks", "imports keras"),
        ("layer = tf.keras.layers.Dense(3)", "neural_vb.networks", "tf.keras in line 1"),
        ("np.random.seed(0)", "neural_vb.samplers", "np.random.seed in line 1"),
        ("def f(x):\n    assert x > 0", "neural_vb.samplers", "assert in line 2"),
        ("x = 1\n" * 399, "neural_vb.samplers", "401 lines"),
    ],
)
def test_an_offence_is_found(source: str, module: str, offence: str) -> None:
    assert offences(f"{source}\nfrom __future__ import annotations", module) == [offence]


def test_a_missing_future_import_is_found() -> None:
    assert offences("x = 1", "neural_vb.draws") == ["no `from __future__ import annotations`"]


def test_a_lazy_import_is_no_offence() -> None:
    source = "from __future__ import annotations\ndef f():\n    import arviz\n    import matplotlib.pyplot as plt"
    assert offences(source, "neural_vb.plots") == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": "import b", "b": "def f():\n    from c import x", "c": "import a"}) is not None
    assert cycle({"a": "import b\nimport c", "b": "import c", "c": "x = 1"}) is None
