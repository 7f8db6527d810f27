"""``docs/figures.py``: the pictures of games in the documentation."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.report.runs import train_short

SCRIPT = Path(__file__).parents[1] / "docs" / "figures.py"


def draw(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_motion_tracer(tmp_path: Path) -> None:
    draw(tmp_path / "tracer.png")
    assert (tmp_path / "tracer.png").stat().st_size > 5_000


def test_a_trained_agent(tmp_path: Path) -> None:
    draw(tmp_path / "game.gif", "--run", train_short(tmp_path / "logs"), "--steps", "2", "12")
    with Image.open(tmp_path / "game.gif") as game:
        assert (game.size, game.n_frames) == ((320, 420), 5)
