"""A fresh installation beside the one that runs the tests, without downloading its dependencies again."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

#: what our own installation leaves in site-packages
OURS = ("sb3_atari_dqn", "_editable_impl_sb3_atari_dqn", "custom_envs")


class Installation:
    """
    A virtual environment whose packages are those of the running one, without ours.

    Everything is linked, but for rl_zoo3, into whose folder ours is installed.

    :param folder: where to make it
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        # RL Zoo's configurations are read where it is, so it must be here too
        self.site_packages = Path(self._output("import sysconfig; print(sysconfig.get_path('purelib'))"))
        for scheme in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(scheme).iterdir():
                if entry.name.startswith(OURS) or entry.name in ("__pycache__", "rl_zoo3"):
                    continue
                (self.site_packages / entry.name).symlink_to(entry)
            if (Path(scheme) / "rl_zoo3").is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "dqn_custom.yml", "dqn_sweep.yml")
                shutil.copytree(Path(scheme) / "rl_zoo3", self.site_packages / "rl_zoo3", ignore=ignored)

    def _output(self, code: str) -> str:
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    def files(self) -> set[str]:
        """
        :return: all files in site-packages, but for compiled ones and what is linked
        """
        files = (path for path in self.site_packages.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(self.site_packages)) for path in files if path.suffix != ".pyc"}

    def pip(self, *arguments: str | Path) -> None:
        subprocess.run([self.python, "-m", "pip", "--quiet", *arguments], check=True)

    def run(self, folder: Path, *arguments: str | Path, status: int = 0) -> str:
        """
        :param folder: where to run
        :param arguments: of ``python -m``
        :param status: exit status to expect
        :return: output and errors
        """
        result = subprocess.run(
            [self.python, "-m", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == status, result.stdout
        return result.stdout


def build_wheel(folder: Path) -> Path:
    """
    :param folder: where to build
    :return: a wheel, built from a source distribution, as a user's pip would
    """
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY], check=True, capture_output=True
    )
    assert list(folder.glob("*.tar.gz"))
    return next(folder.glob("*.whl"))
