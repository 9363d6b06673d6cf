"""Signal 9 at any moment of fits and saves; see killing.py, which forks the processes that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to fork here")
def test_three_hundred_kills_lose_nothing() -> None:
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), "300", "1"]
    path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | path, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout)
    fits, saves = found["fits"], found["saves"]
    assert fits["kills"] + saves["kills"] >= 300 and fits["inside a save"] + saves["inside a save"] >= 100
    assert fits["lost"] == saves["lost"] == 0 and fits["identical"] == fits["fits"]
