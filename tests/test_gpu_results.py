"""``docs/gpu_results.py``, the script for whoever has a GPU, at small size on whatever there is."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "docs" / "gpu_results.py"


def test_every_part_leaves_its_figures(tmp_path: Path) -> None:
    parts = ["bench", "games"]  # the first part, "tests", is this suite, and other sweeps are as this one
    arguments = [argument for part in parts for argument in ("--part", part)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "--quick", *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {"learning", "environments"} <= json.loads((tmp_path / "bench.json").read_text()).keys()
    assert {path.name for path in (tmp_path / "games" / "BreakoutNoFrameskip-v4").iterdir()} == {"dqn_custom", "Rainbow"}
    assert "Rainbow" in (tmp_path / "games.txt").read_text()
    assert (tmp_path / "games" / "sweep.png").stat().st_size > 10_000


def test_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "new")], capture_output=True, text=True, env=hidden)
    assert done.returncode == 2
    assert "there is no GPU that PyTorch can use; --quick" in done.stderr
    assert not (tmp_path / "new").exists()
