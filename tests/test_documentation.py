"""What the documentation tells to do can be done: every command line, Python block, configuration and link in it.

Commands are read by their own parsers and checked by the package, all of them; those of the first page are run, at small size.
Pages are Markdown; tutorials are scripts that `make docs` runs.
"""

import argparse
import ast
import functools
import importlib.metadata
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
import pytest
import stable_baselines3.common.env_util
import torch as th
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from sqlalchemy import make_url
from stable_baselines3.common.vec_env import VecFrameStack

import sb3_atari_dqn
from sb3_atari_dqn import AleVecEnv, CustomDQN, SweepDQN
from sb3_atari_dqn.evaluation.protocols import find_protocol
from sb3_atari_dqn.saving.model_files import save_model
from sb3_atari_dqn.saving.onnx_files import export_onnx
from sb3_atari_dqn.zoo import commands, experiment, plans
from sb3_atari_dqn.zoo.presets import find_config, presets
from sb3_atari_dqn.zoo.register import ALGORITHMS
from sb3_atari_dqn.zoo.search_space import SEARCH_SPACES

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "extensions").glob("*.md")),
]
EXTRAS = set(importlib.metadata.metadata("sb3-atari-dqn").get_all("Provides-Extra") or ())

#: agent steps that Python blocks learn for
FEW = 128

#: emulator frames of a game in Python blocks and in the first run
SHORT_GAME = 200


class Block(NamedTuple):
    """
    Code on a page.

    :param page: the file
    :param line: number of its first line
    :param language: behind the fence; empty for none, and for indented code
    :param text: the code
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """
    :return: all code of a Markdown page
    """
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    index = 0
    while index < len(lines):
        first = index
        if fence := re.match(r"```(\S*)", lines[index]):
            index += 1
            while not lines[index].startswith("```"):
                index += 1
            found.append(Block(page, first + 2, fence[1], "\n".join(lines[first + 1 : index])))
        elif lines[index].startswith("    ") and (index == 0 or not lines[index - 1].strip()):
            while index < len(lines) and (lines[index].startswith("    ") or not lines[index].strip()):
                index += 1
            text = "\n".join(line[4:] for line in lines[first:index])
            found.append(Block(page, first + 1, "", text))
            for script in re.finditer(r"^python - <<'END'\n(.*?)^END$", text, flags=re.MULTILINE | re.DOTALL):
                found.append(Block(page, first + 2 + text[: script.start()].count("\n"), "python", script[1]))
            continue
        index += 1
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


class Command(NamedTuple):
    """
    A command line.

    :param place: file and line
    :param words: as the shell would split it, without what is around it
    """

    place: str
    words: list[str]


def commands_in(text: str) -> Iterator[list[str]]:
    """
    :param text: lines for a shell, among others
    :return: commands of Python, make and pip, by words
    """
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\{?(SEED|RUN|SLURM_ARRAY_TASK_ID)\}?", "1", line.strip())
        line = re.sub(r"^(/usr/bin/time -v|time|exec) ", "", line)
        if not re.match(r"((\.venv/bin/)?python|make|pip) (?!- )", line):
            continue
        words = shlex.split(line.split(" > ")[0].removesuffix("&"), comments=True)
        yield [word.removeprefix(".venv/bin/") for word in words]


def all_commands() -> list[Command]:
    """
    :return: those in code, in running text and in tutorials
    """
    found = []
    for block in BLOCKS:
        if block.language in ("", "bash", "console"):
            found += [Command(block.place, words) for words in commands_in(block.text)]
    for page in PAGES:
        prose = page.read_text(encoding="utf-8")
        for block in blocks_of(page):
            prose = prose.replace(block.text, "")
        for match in re.finditer(r"`((?:python|make|pip) [^`]+)`", prose):
            text = match[1].replace("\n", " ").replace("...NoFrameskip", "PongNoFrameskip").replace(" ...", "")
            found += [Command(f"{page.relative_to(REPOSITORY)} (text)", words) for words in commands_in(text)]
    for tutorial in TUTORIALS:
        text = re.sub(r"^# ?", "", tutorial.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found += [Command(str(tutorial.relative_to(REPOSITORY)), words) for words in commands_in(text)]
    return found


COMMANDS = all_commands()

#: words that stand for something of the reader's
PLACEHOLDERS = {"GAME": "PongNoFrameskip-v4", "NAME": "pong"}


class Parsed(BaseException):
    """Raised where a command would begin to work; nothing on the way catches it."""


@pytest.fixture(scope="module", autouse=True)
def mellowmax() -> Iterator[None]:
    """The algorithm that docs/extending.md adds to RL Zoo, as it says."""
    (block,) = (block for block in BLOCKS if block.page.name == "extending.md" and block.language == "python")
    tables: list[dict[str, Any]] = [ALGORITHMS, SEARCH_SPACES, ALGOS, HYPERPARAMS_SAMPLER, HYPERPARAMS_CONVERTER]
    sys.path.insert(0, str(DOCS / "examples"))
    exec(compile(block.text, block.place, "exec"), {})
    yield
    sys.path.remove(str(DOCS / "examples"))
    for table in tables:
        del table["dqn_mellowmax"]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """``--num-threads`` is for one test."""
    before = th.get_num_threads()
    yield
    th.set_num_threads(before)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where somebody works, with the list of runs of docs/many_machines.md; what is not there is made believe."""
    (games,) = (block for block in BLOCKS if block.page.name == "many_machines.md" and block.language == "yaml")
    (tmp_path / "games.yml").write_text(games.text)
    monkeypatch.chdir(tmp_path)
    study = SimpleNamespace(best_trial=SimpleNamespace(number=0, value=0.0))
    monkeypatch.setattr(commands, "open_study", lambda *_: study)
    monkeypatch.setattr(experiment, "_load_trial", lambda *_: {})
    monkeypatch.setattr(experiment, "connect", make_url)

    def setup_experiment(manager: ExperimentManager) -> None:
        manager.read_hyperparameters()
        raise Parsed

    monkeypatch.setattr(ExperimentManager, "setup_experiment", setup_experiment)
    return tmp_path


def run(words: list[str]) -> None:
    """
    :param words: of a command, ``python`` first; it is run in this process
    """
    before = sys.argv
    try:
        if words[1] == "-m":
            sys.argv = words[2:]
            if words[2] == "sb3_atari_dqn":
                commands.main()
            else:
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:]
            runpy.run_path(str(REPOSITORY / words[1]), run_name="__main__")
    finally:
        sys.argv = before


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """
    :return: what the command's own parser makes of the words
    """
    original = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        raise Parsed(original(self, args, namespace))

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(Parsed) as parsed:
            run(words)
    return parsed.value.args[0]


def check_python(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    :param words: of a command of Python's
    """
    if words[1] != "-m":
        parse(words, monkeypatch)
        return
    module, *arguments = words[2:]
    if module == "pytest":
        assert all((REPOSITORY / name).exists() for name in arguments if not name.startswith("-"))
    elif module == "timeit":
        for code in (argument for argument in arguments if " " in argument or "(" in argument):
            ast.parse(code)
    elif "--help" in arguments:
        with pytest.raises(SystemExit) as end:
            run(words)
        assert end.value.code == 0
    elif module == "rl_zoo3.train" or arguments[:1] == ["train"]:
        with pytest.raises(Parsed):
            run(words)  # until hyperparameters are checked, see the fixture user
    elif arguments[:1] in (["ablation"], ["sweep"]):
        run([*words, "--list"])
    elif arguments == ["presets"]:
        run(words)
    elif len(arguments) == 1 and module == "sb3_atari_dqn":  # named in running text
        assert arguments[0] in {*commands.COMMANDS, *commands.ZOO_COMMANDS}
    elif arguments or module != "sb3_atari_dqn":
        args = parse(words, monkeypatch)
        if getattr(args, "protocol", None) not in (None, "training"):
            find_protocol(args.protocol)
        if getattr(args, "conf_file", None) is not None:
            find_config(args.conf_file)


def test_there_are_commands() -> None:
    known = {" ".join(command.words[1:4]) for command in COMMANDS}
    assert {"-m rl_zoo3.train --algo", "-m sb3_atari_dqn resume", "-m sb3_atari_dqn report"} <= known
    assert len(COMMANDS) > 100


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.place} {' '.join(command.words)[:60]}")
def test_a_command(command: Command, user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = [PLACEHOLDERS.get(word, word) for word in command.words]
    if program == "make":
        subprocess.run(["make", "-n", *arguments], cwd=REPOSITORY, check=True, capture_output=True)
    elif program == "pip":
        for name in re.findall(r"\[([^\]]+)\]", " ".join(arguments)):
            assert set(name.split(",")) <= EXTRAS
    else:
        if "rl_zoo3.train" in arguments and "--track" in arguments:
            pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
        check_python([program, *arguments], monkeypatch)


def test_a_command_that_does_not_exist_is_noticed(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = ["python", "-m", "rl_zoo3.train", "--env", "PongNoFrameskip-v4"]
    for words, error in (
        ([*train, "--algo", "dqn_costum"], SystemExit),
        ([*train, "--algo", "dqn_custom", "--nothing"], SystemExit),
        ([*train, "--algo", "dqn_custom", "--conf-file", "nipz"], (SystemExit, ValueError)),
        ([*train, "--algo", "dqn_custom", "-params", "learning_rat:1"], (SystemExit, TypeError)),
        (["python", "-m", "rl_zoo3.record_video", "--algo", "dqn_custom", "--steps", "3"], SystemExit),
        (["python", "-m", "sb3_atari_dqn", "evaluate", "run", "--protocol", "natur"], (SystemExit, ValueError)),
        (["python", "-m", "sb3_atari_dqn", "evalute", "run"], SystemExit),
        (["python", "-m", "sb3_atari_dqn", "ablation", "rainbo"], SystemExit),
        (["python", "docs/figure.py", "picture.png"], FileNotFoundError),
    ):
        with pytest.raises(error):
            check_python(words, monkeypatch)


YAML = [block for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_a_configuration(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "block.yml"
    file.write_text(block.text)
    content = yaml.safe_load(block.text)
    if "variants" in content:
        plans.check(plans.read_plan(str(file)))
    elif content.keys() <= CustomDQN.keywords() | experiment.ZOO_KEYS:
        experiment.check_hyperparams("dqn_custom", content)
    else:  # a section for each environment
        for section in content.values():
            experiment.check_hyperparams("dqn_custom", section)


def first_run() -> list[list[str]]:
    """
    :return: commands of the first page, in order, that are run at small size
    """
    small = {
        "rl_zoo3.train": [
            *("--env-kwargs", f"max_num_frames_per_episode:{SHORT_GAME}"),
            *("-params", "n_envs:2", "learning_starts:100", "buffer_size:1000"),
        ],
        "rl_zoo3.record_video": ["-n", "20"],
        "rl_zoo3.enjoy": ["-n", "50", "--no-render"],
        "sb3_atari_dqn evaluate": ["--episodes", "2"],
        "sb3_atari_dqn resume": ["--n-timesteps", "700"],
    }
    lines = []
    for block in blocks_of(DOCS / "first_run.md"):
        if block.language == "":
            lines += list(commands_in(block.text))
    whole = next(words for words in lines if "rl_zoo3.train" in words and "-n" not in words)
    lines.remove(whole)  # an hour
    found = []
    for words in lines:
        changes = small.get(" ".join(words[2:4]), small.get(words[2], []))
        words = [*words, *changes]
        if "rl_zoo3.train" in words:
            words[words.index("-n") + 1] = "400"
        found.append(words)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all commands of the first page have been given."""
    folder = tmp_path_factory.mktemp("first_run")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        for words in first_run():
            run(words)
    return folder


def test_the_first_run(trained: Path) -> None:
    experiment_folder = trained / "logs" / "dqn_custom" / "PongNoFrameskip-v4_1"
    assert (experiment_folder / "PongNoFrameskip-v4.zip").stat().st_size > 1e6
    assert (experiment_folder / "scores.png").stat().st_size > 10_000
    assert (experiment_folder / "report.html").stat().st_size > 1e6
    assert len(list((experiment_folder / "videos").glob("*.mp4"))) == 1
    assert 400 < pd.read_csv(experiment_folder / "progress.csv")["steps"].max() <= 700, "resumed"
    said = {words[3] if words[2] == "sb3_atari_dqn" else words[2] for words in first_run()}
    assert said == {"rl_zoo3.train", "rl_zoo3.record_video", "rl_zoo3.enjoy", "plot", "evaluate", "report", "resume"}


PYTHON = [block for block in BLOCKS if block.language == "python" and block.page.name != "extending.md"]


@pytest.fixture
def small(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that blocks take for granted, short trainings, short games."""
    for algorithm in (CustomDQN, SweepDQN):
        original: Callable[..., Any] = algorithm.learn

        def learn(self: Any, total_timesteps: int, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            return original(self, min(total_timesteps, FEW), *args, **kwargs)

        monkeypatch.setattr(algorithm, "learn", learn)
    short = functools.partial(AleVecEnv, max_episode_frames=SHORT_GAME)
    monkeypatch.setattr(sb3_atari_dqn, "AleVecEnv", short)
    make_atari_env = functools.partial(
        stable_baselines3.common.env_util.make_atari_env, env_kwargs={"max_num_frames_per_episode": SHORT_GAME}
    )
    monkeypatch.setattr(stable_baselines3.common.env_util, "make_atari_env", make_atari_env)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").symlink_to(trained / "logs")
    return {}


#: in Python blocks: numbers that take a while, and such as do not
SMALLER = {"len(scores) < 30": "len(scores) < 1", "8, 150\n": "8, 5\n", "range(11)": "range(1)", "range(2000)": "range(2)"}

#: what a page's blocks take for granted
BEFORE: dict[str, Callable[[Path], dict[str, Any]]] = {}


def before(page: str) -> Callable[[Callable[[Path], dict[str, Any]]], None]:
    def remember(function: Callable[[Path], dict[str, Any]]) -> None:
        BEFORE[page] = function

    return remember


@before("files.md")
def models(folder: Path) -> dict[str, Any]:
    env = AleVecEnv("BreakoutNoFrameskip-v4", n_envs=2)
    model = CustomDQN("CnnPolicy", env, buffer_size=FEW, policy_kwargs={"features_extractor_class": "NipsCNN"})
    save_model(model, folder / "model.safetensors")
    export_onnx(model, folder / "model.onnx")
    checkpoints = folder / "logs" / "dqn_custom" / "PongNoFrameskip-v4_1" / "checkpoints"
    newest = max(path.name for path in checkpoints.glob("*.json") if path.stem.isdigit())
    names = {"env": env, "observations": env.reset(), "sb3_atari_dqn": sb3_atari_dqn}
    return {**names, "checkpoints/000012.json": f"checkpoints/{newest}"}


@before("dqn_sweep.md")
def checkpoint(folder: Path) -> dict[str, Any]:
    env = AleVecEnv("BreakoutNoFrameskip-v4", n_envs=2)
    kwargs = {"features_extractor_class": "NipsCNN"}
    run_folder = folder / "dqn_sweep"
    model = SweepDQN("CnnPolicy", env, buffer_size=1_000, batch_size=32, policy_kwargs=kwargs, run_folder=str(run_folder))
    model.learn(120)
    return {"env": env, "SweepDQN": SweepDQN, "logs/dqn_sweep/Breakout-v0_1": str(run_folder)}


@before("report.md")
def one_environment(_folder: Path) -> dict[str, Any]:
    return {"env": VecFrameStack(stable_baselines3.common.env_util.make_atari_env("PongNoFrameskip-v4"), 4)}


@before("replay.md")
def few_environments(_folder: Path) -> dict[str, Any]:
    return {"env": AleVecEnv("PongNoFrameskip-v4", n_envs=2)}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_a_python_block(block: Block, small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = BEFORE.get(block.page.name, lambda _folder: {})(tmp_path)
    text = block.text
    for path in [name for name in names if "/" in name]:
        text = text.replace(path, names.pop(path))
    for large, few in SMALLER.items():
        text = text.replace(large, few)
    exec(compile(text, block.place, "exec"), names)


def anchors(page: Path) -> set[str]:
    """
    :return: of a page's headings, as GitHub and MyST make them
    """
    text = page.read_text(encoding="utf-8")
    for block in blocks_of(page):
        text = text.replace(block.text, "")
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in blocks_of(page):
        text = text.replace(block.text, "")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_reference_has_all_that_is_public() -> None:
    reference = (DOCS / "api.md").read_text(encoding="utf-8")
    for name in set(sb3_atari_dqn.__all__) - {"__version__"}:
        assert f":: sb3_atari_dqn.{name}\n" in reference


def test_every_preset_and_every_page_is_named() -> None:
    listed = (DOCS / "presets.md").read_text(encoding="utf-8")
    assert [name for name in presets() if f"`{name}`" not in listed] == []
    contents = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("index.md", "extensions.md"))
    named = [page.relative_to(DOCS).with_suffix("") for page in PAGES if page.is_relative_to(DOCS) and page.stem != "index"]
    assert [str(name) for name in named if not re.search(rf"^{name}$", contents, flags=re.MULTILINE)] == []
