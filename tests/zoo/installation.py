"""A fresh installation beside the one that runs the tests, without downloading its dependencies again."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

#: what our own installation leaves in site-packages
OURS = ("sb3_atari_dqn", "_editable_impl_sb3_atari_dqn", "custom_envs")

#: Forks for each command that it is sent, and becomes `python -m` in its folder. What takes seconds to import and has nothing
#: to do with us is there already; Gymnasium, Stable-Baselines3, RL Zoo and ours are not.
FORKS = """
import json, os, random, runpy, sys
import matplotlib.pyplot, numpy, optuna, pandas, scipy.stats, torch._dynamo, torch.utils.tensorboard

print(flush=True)
for line in sys.stdin:
    folder, output, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
os.chdir(folder)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(os.open(output, os.O_WRONLY), 1)
os.dup2(1, 2)
for seed in (random.seed, numpy.random.seed, torch.seed):
    seed()  # or all would be born with the same numbers
sys.path[0], sys.argv = folder, arguments
runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
"""


class Installation:
    """
    A virtual environment whose packages are those of the running one, without ours.

    Everything is linked, but for rl_zoo3, into whose folder ours is installed.

    :param folder: where to make it
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.folder = folder
        self.python = folder / "bin" / "python"
        # RL Zoo's configurations are read where it is, so it must be here too
        self.site_packages = Path(self._output("import sysconfig; print(sysconfig.get_path('purelib'))"))
        self._forks: subprocess.Popen[str] | None = None
        self._started: set[tuple[str | Path, ...]] = set()
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
        :param arguments: of ``python -m``. Each command is a new interpreter when it is run first, and then a fork of one that
            has imported much already
        :param status: exit status to expect
        :return: output and errors
        """
        command = arguments[:2]
        if command in self._started:
            found, output = self._fork(folder, *map(str, arguments))
        else:
            self._started.add(command)
            result = subprocess.run(
                [self.python, "-m", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            found, output = result.returncode, result.stdout
        assert found == status, output
        return output

    def _fork(self, folder: Path, *arguments: str) -> tuple[int, str]:
        if self._forks is None:
            self._forks = subprocess.Popen(
                [self.python, "-c", FORKS], cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._forks.stdout is not None
            assert self._forks.stdout.readline() == "\n", "it has imported what it needs"
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        with tempfile.NamedTemporaryFile("r") as output:
            print(json.dumps([str(folder), output.name, arguments]), file=self._forks.stdin, flush=True)
            return int(self._forks.stdout.readline()), output.read()

    def close(self) -> None:
        if self._forks is not None:
            with self._forks:
                assert self._forks.stdin is not None
                self._forks.stdin.close()
            assert self._forks.returncode == 0


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
