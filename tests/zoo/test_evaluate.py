"""Real models of real runs, played whole games by a protocol."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_atari_dqn import AleVecEnv
from sb3_atari_dqn.evaluation.environments import Preprocessing
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.zoo.commands import main
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.report import report
from sb3_atari_dqn.zoo.resume import resume
from sb3_atari_dqn.zoo.runs import find_algo, find_preprocessing, find_run
from tests.conftest import MakeAtari

register()

BREAKOUT = "BreakoutNoFrameskip-v4"
SMALL = {"buffer_size": 100, "learning_starts": 8, "policy_kwargs": {"features_extractor_class": "NipsCNN"}}
WRAPPERS = "stable_baselines3.common.atari_wrappers."


def train(folder: Path, algo: str, env_id: str, hyperparams: dict[str, Any], **changes: Any) -> Path:
    """A run as `python -m rl_zoo3.train` leaves it, after 16 steps."""
    args = {"algo": algo, "env": env_id, "seed": 1, "conf_file": None, "n_timesteps": 16, "env_kwargs": None} | changes
    experiment = ExperimentManager(
        Namespace(**args, hyperparams=hyperparams, gym_packages=[]),
        algo,
        env_id,
        str(folder),
        n_timesteps=16,
        eval_freq=-1,
        seed=1,
        hyperparams=hyperparams,
        verbose=0,
        log_interval=-1,
    )
    made = experiment.setup_experiment()
    assert made is not None
    experiment.learn(made[0])
    experiment.save_trained_model(made[0])
    return Path(experiment.save_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ours with native environments."""
    fast = {"n_envs": 4, "accelerate": "none", "precision": "float32"}
    return train(tmp_path_factory.mktemp("logs"), "dqn_custom", BREAKOUT, SMALL | fast)


def played(run: object, *arguments: str) -> None:
    evaluate([str(run), "--protocol", "nature", "--episodes", "1", *arguments])


def test_a_run_by_a_protocol(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_run(run)
    assert found.preprocessing() == Preprocessing(native=True)
    assert found.label.startswith("dqn_custom -n 16 accelerate='none' buffer_size=100 ")
    played(run, "--seed", "3")
    evaluation = Evaluation.load(run / "evaluation_nature.json")
    assert evaluation.rules == {**PROTOCOLS["nature"]._asdict(), "n_episodes": 1}
    assert (evaluation.label, evaluation.algo, evaluation.seed) == (found.label, "dqn_custom", 3)
    assert (evaluation.training_seed, evaluation.training_steps) == (1, 16)
    (episode,) = evaluation.episodes
    assert episode.env_seed == 3
    assert 0 < 4 * (episode.steps - 1) < episode.frames <= 18_029
    printed = capsys.readouterr().out
    score = f"{episode.score:g}"
    assert (
        f"{BREAKOUT}: mean {episode.score:.2f}, standard deviation 0.00, minimum {score}, maximum {score} (whole games: 1)"
        in (printed)
    )
    assert f"nature: median {score}, human-normalised {(episode.score - 1.7) / 28.8:.3f}" in printed
    assert printed.rstrip().endswith(str(run / "evaluation_nature.json"))

    shutil.copy(found.find_model()[0], run / "best_model.zip")
    played(run, "--seed", "3", "--load-best")
    assert Evaluation.load(run / "evaluation_nature_best_model.json").episodes == evaluation.episodes, (
        "the same model and seed"
    )
    played(run / "best_model.zip", "--seed", "3", "--json", str(run / "other.json"))
    assert Evaluation.load(run / "other.json").episodes == evaluation.episodes, "a file in a run is of the run"

    compare([str(run), "--json", str(run / "comparison.json")])
    compared = json.loads((run / "comparison.json").read_text())
    assert [(entry["score"], entry["seed"]) for entry in compared["runs"]] == [(episode.score, 1)]
    assert compared["protocol"] == "nature"


def test_a_run_as_it_was_trained(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(run.iterdir())
    for number in (1, 2):
        evaluate([str(run), "--episodes", "1", "--json", str(tmp_path / f"{number}.json")])
    first, second = (Evaluation.load(tmp_path / f"{number}.json") for number in (1, 2))
    assert first == second
    assert (first.protocol, first.rules) == ("as trained", {})
    assert "as trained: median" in capsys.readouterr().out
    assert sorted(run.iterdir()) == before, "nothing is written where nobody asked for it"


def test_models_of_stable_baselines3(tmp_path: Path, make_atari: MakeAtari) -> None:
    env = make_atari(BREAKOUT)
    model = DQN("CnnPolicy", env, buffer_size=10)
    model.buffer_size = 100_000_000  # 5.6 TB, which are not allocated to play
    model.save(tmp_path / "dqn.zip")
    PPO("CnnPolicy", env, n_steps=64).save(tmp_path / "ppo.zip")
    for name in ("dqn", "ppo"):
        played(tmp_path / f"{name}.zip", "--env", BREAKOUT, "--json", str(tmp_path / f"{name}.json"))
        evaluation = Evaluation.load(tmp_path / f"{name}.json")
        assert (evaluation.algo, evaluation.label, evaluation.training_seed) == (name, name, None)
    assert not (tmp_path / "evaluation_nature.json").exists()


def test_random_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played("random", "--env", "Breakout-v0", "--episodes", "3", "--json", str(tmp_path / "random.json"))
    evaluation = Evaluation.load(tmp_path / "random.json")
    assert (evaluation.model, evaluation.algo, evaluation.training_steps) == ("random", "random", None)
    assert len(evaluation.episodes) == 3
    assert "95 % interval of the mean" in capsys.readouterr().out


@pytest.mark.parametrize("algo", ["a2c", "dqn", "ppo", "ppo_lstm", "qrdqn", "trpo", "dqn_custom", "dqn_sweep"])
def test_finds_the_algorithm_of_a_file(algo: str, tmp_path: Path) -> None:
    policy = "MlpLstmPolicy" if algo == "ppo_lstm" else "MlpPolicy"
    memory: dict[str, Any] = {"buffer_size": 2_000} if "dqn" in algo else {}
    if algo == "dqn_sweep":
        small = {"features_extractor_class": "NipsCNN"}
        model = ALGOS[algo]("CnnPolicy", AleVecEnv(BREAKOUT), policy_kwargs=small, **memory)
    else:
        model = ALGOS[algo](policy, "CartPole-v1", **memory)
    model.save(tmp_path / "model.zip")
    assert find_algo(tmp_path / "model.zip") == algo


def test_what_a_run_of_any_wrappers_sees() -> None:
    assert find_preprocessing({"env_wrapper": [WRAPPERS + "AtariWrapper"], "frame_stack": 4}) == Preprocessing()
    kwargs = {"screen_size": 42, "terminal_on_life_loss": False, "noop_max": 5, "clip_reward": False}
    assert find_preprocessing({"env_wrapper": [{WRAPPERS + "AtariWrapper": kwargs}], "native_envs": True}) == Preprocessing(
        (42, 42), 1, episodic_life=False, native=True
    )
    tracer = {"decay": 0.5, "height": 50}
    both = [{"sb3_atari_dqn.MotionTracer": tracer}, WRAPPERS + "EpisodicLifeEnv"]
    assert find_preprocessing({"env_wrapper": both}) == Preprocessing((50, 80), 1, {"decay": 0.5}, fire_reset=False)
    assert find_preprocessing({"env_wrapper": ["sb3_atari_dqn.MotionTracerAtariWrapper"]}) == Preprocessing((105, 80), 1, {})
    single = [WRAPPERS + name for name in ("NoopResetEnv", "MaxAndSkipEnv", "FireResetEnv", "WarpFrame", "ClipRewardEnv")]
    assert find_preprocessing({"env_wrapper": single, "frame_stack": 2}) == Preprocessing(n_stack=2, episodic_life=False)
    for hyperparams in (
        {},
        {"env_wrapper": [WRAPPERS + "EpisodicLifeEnv"]},
        {"env_wrapper": [WRAPPERS + "AtariWrapper"], "normalize": True},
        {"env_wrapper": [WRAPPERS + "AtariWrapper", "gymnasium.wrappers.FlattenObservation"]},
        {"env_wrapper": ["sb3_atari_dqn.MotionTracerAtariWrapper"], "frame_stack": 4},
    ):
        with pytest.raises(ValueError, match="does not go with a protocol"):
            find_preprocessing(hyperparams)


def test_another_difficulty_is_another_game(tmp_path: Path) -> None:
    run = train(tmp_path, "dqn_custom", "CartPole-v1", {}, env_kwargs={"difficulty": 1})
    with pytest.raises(ValueError, match="env_kwargs: difficulty=1 does not go with a protocol"):
        find_run(run).preprocessing()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--protocol", "natur"], "'natur' is not known; choose one of nature, dqn-zoo, machado, tutorial"),
        (["RUN", "--episodes", "0"], "--episodes 0 must be at least 1"),
        (["RUN", "--seed", "-1"], "--seed -1 must be from 0 to"),
        (["RUN", "--json", "."], "'.' is a folder: give the name of a file"),
        (["RUN", "--protocol", "nature", "--json", "JUNK/scores.json"], "junk.zip' is a file, not a folder"),
        (["RUN", "--protocol", "nature", "--deterministic"], "--deterministic does not go with --protocol nature"),
        (["RUN", "--protocol", "nature", "--env", BREAKOUT], f"--env {BREAKOUT} does not go with a run"),
        (["RUN", "--protocol", "nature", "--algo", "ppo"], "--algo ppo does not go with a run, which has its own: dqn_custom"),
        (["RUN", "--algo", "dqn2"], "--algo 'dqn2' is not known; choose one of a2c, "),
        (["logs"], "'logs' is not the folder of a training run"),
        (["gone.safetensors", "--env", BREAKOUT, "--protocol", "nature"], "'gone.safetensors' does not exist"),
        (["RUN/../..", "--protocol", "nature"], "is not the folder of a training run"),
        (["FILE", "--protocol", "nature"], "does not tell the game: give --env"),
        (["FILE", "--env", BREAKOUT], "does not tell the rules: give --protocol, one of nature, "),
        (["FILE", "--env", "CartPole-v1", "--protocol", "nature"], "'CartPole-v1' is not one of ALE's games"),
        (["FILE", "--env", "PongNoFrameskip-v4", "--protocol", "nature"], "does not fit 'PongNoFrameskip-v4'"),
        (["FILE", "--env", BREAKOUT, "--protocol", "nature", "--algo", "ppo"], "cannot be loaded as 'ppo'"),
        (["JUNK", "--env", BREAKOUT, "--protocol", "nature"], "is not a model that Stable-Baselines3 saved"),
        (["random", "--protocol", "nature"], "'random' does not tell the game: give --env"),
        (["MODEL", "--load-best"], "--load-best does not go with"),
        (["MODEL", "--env", "PongNoFrameskip-v4"], f"of a run on {BREAKOUT}"),
        (["random", "--env", BREAKOUT], "'random' does not tell the rules: give --protocol"),
        (
            ["random", "--env", BREAKOUT, "--protocol", "nature", "--load-best"],
            "--load-best does not go with 'random'",
        ),
    ],
)
def test_bad_input(arguments: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(run / f"{BREAKOUT}.zip", tmp_path / "model.zip")
    (tmp_path / "junk.zip").write_text("junk")
    names = {
        "RUN": str(run),
        "MODEL": str(run / f"{BREAKOUT}.zip"),
        "FILE": str(tmp_path / "model.zip"),
        "JUNK": str(tmp_path / "junk.zip"),
    }
    for name, path in names.items():
        arguments = [argument.replace(name, path) if argument.startswith(name) else argument for argument in arguments]
    files = sorted(path for path in run.rglob("*"))
    with pytest.raises(SystemExit):
        evaluate(arguments)
    assert message in capsys.readouterr().err
    assert sorted(path for path in run.rglob("*")) == files


def test_a_package_that_is_not_there(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    args_file = next(copy.glob("*/args.yml"))
    text = args_file.read_text()
    args_file.write_text(re.sub(r"(gym_packages\s+- )\[\]", r"\1[no_such_package]", text))
    assert args_file.read_text() != text
    for command in (evaluate, report, resume):
        with pytest.raises(SystemExit):
            command([str(copy), "--trust"])
        assert "No module named 'no_such_package'" in capsys.readouterr().err


def test_a_model_that_is_gone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run / BREAKOUT, tmp_path / BREAKOUT)
    with pytest.raises(SystemExit):
        evaluate([str(tmp_path)])
    assert f"'{tmp_path / BREAKOUT}.zip' does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_the_package_knows_the_commands(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sb3_atari_dqn", command, "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert f"usage: python -m sb3_atari_dqn {command}" in capsys.readouterr().out


def test_an_algorithm_that_a_file_does_not_tell(tmp_path: Path) -> None:
    class OwnPolicy(ActorCriticPolicy):
        pass

    A2C(OwnPolicy, "CartPole-v1").save(tmp_path / "own.zip")
    with pytest.raises(ValueError, match="does not tell its algorithm: give --algo, one of a2c, "):
        find_algo(tmp_path / "own.zip")
