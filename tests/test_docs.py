"""Documentation that is not executed is assumed wrong: every Python block runs, page by page, with short fits."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neural_vb
from neural_vb import amortized, fitting, warm_start
from neural_vb.applications import vae

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
QUICK = neural_vb.TrainingConfig(max_steps=40, min_steps=0, decay_steps=20, window=20, batch_size=32, jit_compile=False)

NETWORK = neural_vb.networks.MLP((8,), output_scale=0.01)
SMALL = {
    "sampler": neural_vb.samplers.ResidualSampler(NETWORK),
    "critic": neural_vb.critics.MLPCritic(NETWORK),
    "contrast": neural_vb.contrasts.Flow(2, NETWORK),
}


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """(line before the block's first, code) of every Python block."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        yield text[: match.start(1)].count("\n"), match.group(1)


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The real `fit`, cut short: the examples' syntax and shapes are under test here, not their accuracy."""
    posteriors: list[Any] = []
    fit, search = neural_vb.fit, fitting.warm_start

    @functools.wraps(fit)
    def short_fit(*arguments: Any, **keywords: Any) -> Any:
        small = {} if isinstance(keywords.get("start"), neural_vb.Posterior) else SMALL
        posteriors.append(fit(*arguments, **(small | keywords | {"config": QUICK, "progress": False})))
        return posteriors[-1]

    fit_amortized = neural_vb.fit_amortized

    def short_fit_amortized(*arguments: Any, **keywords: Any) -> Any:
        quick = {"config": QUICK, "likelihood_steps": 20, "progress": False}
        posteriors.append(fit_amortized(*arguments, **(keywords | quick)))
        return posteriors[-1]

    fit_vae = vae.fit_vae

    def short_fit_vae(*arguments: Any, **keywords: Any) -> Any:
        posteriors.append(fit_vae(*arguments, **(keywords | {"config": QUICK, "progress": False})))
        return posteriors[-1]

    monkeypatch.setattr(amortized, "FLOW", dataclasses.replace(amortized.FLOW, num_couplings=2))
    monkeypatch.setattr(vae, "fit_vae", short_fit_vae)
    monkeypatch.setattr(neural_vb, "fit", short_fit)
    monkeypatch.setattr(neural_vb, "fit_amortized", short_fit_amortized)
    monkeypatch.setattr(
        fitting, "warm_start", lambda target, **options: search(target, **(options | {"num_starts": 2}))
    )
    monkeypatch.setattr(warm_start, "NUM_PARTICLES", 512)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    return posteriors


@pytest.mark.slow  # .ci/run has a step of its own for them
@pytest.mark.filterwarnings("ignore::neural_vb.errors.ImportanceWarning")  # fits cut short have earned it
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: page.name)
def test_python_blocks_of_a_page_run(page: Path, quick_fit: list[Any]) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    for line, code in blocks(page):
        # The newlines make tracebacks, and TensorFlow when it reads the source, point into the page.
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), namespace)
    assert quick_fit, "no example of this page fits anything"


@pytest.mark.parametrize("name", ["README.md", "index.md", "guide.md", "extending.md", "amortized.md", "vae.md"])
def test_page_has_examples(name: str) -> None:
    assert sum(any(blocks(page)) for page in PAGES if page.name == name) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fences_are_closed_and_named(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
    assert len(fences) % 2 == 0
    assert all(
        opening != "```" and closing == "```" for opening, closing in zip(fences[::2], fences[1::2], strict=True)
    )


def test_every_public_name_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    public = [name for name in neural_vb.__all__ if not name.startswith("_")]
    assert [name for name in public if not re.search(rf"\b{name}\b", text) and not is_error(name)] == []


def is_error(name: str) -> bool:
    """Errors explain themselves where they happen."""
    value = getattr(neural_vb, name)
    return isinstance(value, type) and issubclass(value, (neural_vb.NeuralVBError, Warning))


def test_every_argument_of_fit_is_documented() -> None:
    import inspect

    text = "\n".join(page.read_text() for page in PAGES)
    arguments = set(inspect.signature(neural_vb.fit).parameters) - {"target"}
    assert {name for name in arguments if not re.search(rf"\b{name}\b", text)} == set()


def test_readme_commands_install_what_setup_offers() -> None:
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^```sh\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    assert commands == [
        "python -m venv .venv && . .venv/bin/activate && pip install . && neural-vb demo",
        "pip install '.[test]' && pytest -n 2 --dist loadfile",
    ]
