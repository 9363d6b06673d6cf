"""Saved files that were damaged or made to harm: every kind has a name, and nothing of it is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from saved_files import change, drop, edit, rewrite, swap, swap_sealed, tensors

import neural_vb as nvb
from neural_vb import archives
from neural_vb.errors import FileFormatError


@pytest.fixture
def saved(named_posterior: nvb.Posterior, tmp_path: Path) -> Path:
    named_posterior.save(tmp_path / "named.nvb")
    return tmp_path / "named.nvb"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "folder missing": (shutil.rmtree, "there is no such folder"),
    "manifest missing": (lambda f: (f / "manifest.json").unlink(), r"no file manifest\.json"),
    "tensors missing": (lambda f: tensors(f).unlink(), r"no file tensors-.*\.safetensors"),
    "manifest cut": (lambda f: truncate(f / "manifest.json"), "JSONDecodeError: "),
    "manifest not text": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe\x00\x80"), "UnicodeDecodeError: "),
    "manifest a list": (lambda f: (f / "manifest.json").write_text("[]"), "a manifest of something else"),
    "manifest a folder": (lambda f: ((f / "manifest.json").unlink(), (f / "manifest.json").mkdir()), "unreadable: "),
    "another format": (lambda f: change(f, lambda m: m.update(format="weights")), "a manifest of something else"),
    "unsealed": (lambda f: change(f, lambda m: m.update(neural_vb=1)) or swap(f, b": 1,", b": 2,"), "sum is another"),
    "more names": (lambda f: change(f, lambda m: m.update(file="../tensors")), "a manifest with other names"),
    "a number changed": (
        lambda f: swap(f, b'"seed": 0', b'"seed": 1'),
        "manifest.json was changed: its sum is another",
    ),
    "no sampler": (lambda f: drop(f, "sampler"), "KeyError: 'sampler'"),
    "no status": (lambda f: drop(f, "status"), "KeyError: 'status'"),
    "strange parts": (lambda f: edit(f, sampler={"part": "os.system", "fields": {}}), "KeyError: 'os.system'"),
    "strange status": (lambda f: edit(f, status={"dict": {"reason": "x"}}), "TypeError: "),
    "a strange marker": (lambda f: edit(f, offset={"lambda": 0}), "KeyError: 'user'"),
    "a status that is no text": (
        lambda f: edit(f, status={"dict": {"reason": 1, "message": "", "advice": ""}}),
        "TypeError: a seed or text of another type",
    ),
    "a name twice": (lambda f: swap(f, b'"seed": 0', b'"seed": 0, "seed": 0'), "ValueError: a name comes twice"),
    "NaN in JSON": (lambda f: swap(f, b'"seed": 0', b'"seed": NaN'), "ValueError: NaN is not JSON"),
    "brackets": (lambda f: (f / "manifest.json").write_text("[" * 10**6), "ValueError: brackets 1000000 deep"),
    "digits": (lambda f: swap(f, b'"seed": 0', b'"seed": ' + b"9" * 10**5), "ValueError: "),
    "a layer of 1e12": (
        lambda f: swap_sealed(f, '"extra_noise": 0', '"extra_noise": 1000000000000'),
        "ValueError: 1000",
    ),
    "another width": (lambda f: swap_sealed(f, '"extra_noise": 0', '"extra_noise": 2'), "ValueError: "),
    "tensors cut": (lambda f: truncate(tensors(f)), "was changed: its sum is another"),
    "a tensor changed": (lambda f: flip(tensors(f)), "was changed: its sum is another"),
    "tensors empty": (lambda f: tensors(f).write_bytes(b""), "was changed: its sum is another"),
    "a sum of letters": (
        lambda f: change(f, lambda m: m["tensors"].update(sha256="../" * 21 + "x")),
        "a sum that is none",
    ),
    "a vast tensor": (
        lambda f: change(f, lambda m: m["tensors"]["arrays"].__setitem__(0, ["float32", [2**31, 2**31]])),
        "tensors of 18446744073[0-9]+ bytes in a file of",
    ),
    "a negative size": (
        lambda f: change(f, lambda m: m["tensors"]["arrays"].__setitem__(0, ["float32", [-1]])),
        r"a tensor of shape \[-1\]",
    ),
    "objects": (
        lambda f: change(f, lambda m: m["tensors"]["arrays"].__setitem__(0, ["object", [1]])),
        "KeyError: 'object'",
    ),
    "a tensor missing": (
        lambda f: rewrite(f, lambda a: {k: v for k, v in a.items() if k != "tensor_0"}),
        "bytes in a file of|KeyError: 'tensor_0'",
    ),
    "another shape": (lambda f: rewrite(f, lambda a: a | {"tensor_0": a["tensor_0"][None]}), "tensors of other shapes"),
    "a parameter not finite": (
        lambda f: rewrite(f, lambda a: {k: np.full_like(v, np.nan) if v.dtype == "f4" else v for k, v in a.items()}),
        "ValueError: parameters that are no finite float32 arrays",
    ),
}


@pytest.mark.parametrize(("damage", "what"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(saved: Path, named_arguments: dict[str, Any], damage: Callable, what: str) -> None:
    damage(saved)
    with pytest.raises(FileFormatError, match=what) as error:
        nvb.load(saved, **named_arguments)
    assert str(error.value).startswith(f"Expected a folder written by the save of a posterior; got {saved} (")
    assert str(error.value).endswith(". Fix: check the path, or fit and save again")


def test_flipped_bits_are_called_damage(saved: Path, named_arguments: dict[str, Any]) -> None:
    """Of the manifest, where they fall on its names, numbers and brackets, and of the tensors."""
    rng = np.random.default_rng(0)
    for path in (saved / "manifest.json", tensors(saved)):
        whole = path.read_bytes()
        early = range(1, 60) if path.suffix == ".json" else ()  # its format and schema
        for place in (*early, *rng.integers(1, len(whole), 40)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(0, 7))
            path.write_bytes(damaged)
            try:
                nvb.load(saved, **named_arguments)
            except FileFormatError as error:
                assert "damaged" in str(error), (place, str(error))
            else:  # white space is no content
                assert json.loads(damaged) == json.loads(whole)
        path.write_bytes(whole)


@pytest.mark.parametrize("schema", [3, 99, None])
def test_another_schema_says_what_to_do(saved: Path, named_arguments: dict[str, Any], schema: int | None) -> None:
    change(saved, lambda manifest: manifest.update(schema=schema, neural_vb="7.0"))
    with pytest.raises(FileFormatError) as error:
        nvb.load(saved, **named_arguments)
    assert str(error.value) == (
        f"Expected a posterior of schema 4; got schema {schema} in {saved}, written by neural_vb 7.0. "
        "Fix: fit and save again with this version, or load it with the version that wrote it"
    )


def test_a_folder_from_before_safetensors_says_what_to_do(tmp_path: Path, named_arguments: dict[str, Any]) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "neural_vb posterior", "schema": 3, "neural_vb": "0.1.0"}')
    np.savez(tmp_path / "tensors.npz", tensor_0=np.zeros(3))
    with pytest.raises(FileFormatError, match=r"got schema 3 in .* Fix: fit and save again with this version, or load"):
        nvb.load(tmp_path, **named_arguments)


@pytest.mark.parametrize("name", ["manifest.json", "tensors"])
def test_links_are_refused_even_to_what_is_right(saved: Path, named_arguments: dict[str, Any], name: str) -> None:
    path = tensors(saved) if name == "tensors" else saved / name
    path.rename(saved.parent / "elsewhere")
    path.symlink_to(saved.parent / "elsewhere")
    with pytest.raises(FileFormatError, match=r"got a link \("):
        nvb.load(saved, **named_arguments)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["manifest.json", "tensors"])
def test_a_pipe_is_not_waited_for(saved: Path, named_arguments: dict[str, Any], name: str) -> None:
    path = tensors(saved) if name == "tensors" else saved / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileFormatError, match=r"got no regular file \("):
        nvb.load(saved, **named_arguments)


def test_a_manifest_too_long_is_not_read(saved: Path, named_arguments: dict[str, Any]) -> None:
    with (saved / "manifest.json").open("r+b") as file:
        file.truncate(2**40)  # a hole: it takes no space
    with pytest.raises(FileFormatError, match=r"got 1099511627776 bytes, more than 4194304"):
        nvb.load(saved, **named_arguments)


class Exploit:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize("name", ["manifest.json", "tensors"])
def test_pickles_are_refused(saved: Path, named_arguments: dict[str, Any], name: str) -> None:
    raw = pickle.dumps(Exploit())
    if name == "manifest.json":
        (saved / name).write_bytes(raw)
    else:
        digest = hashlib.sha256(raw).hexdigest()
        (saved / archives.file_name(digest)).write_bytes(raw)
        listed = {"sha256": digest, "bytes": len(raw), "arrays": []}
        change(saved, lambda manifest: manifest.update(tensors=listed))
    with pytest.raises(FileFormatError, match=r"UnicodeDecodeError|SafetensorError"):
        nvb.load(saved, **named_arguments)


def test_files_hold_numbers_and_text_alone(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["manifest.json", tensors(saved).name]
    arrays = safetensors.numpy.load(tensors(saved).read_bytes())
    assert {array.dtype.kind for array in arrays.values()} <= {"f", "i"}
    json.loads((saved / "manifest.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
