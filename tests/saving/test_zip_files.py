"""Zip files of Stable-Baselines3: genuine ones play as they did, others run nothing."""

import base64
import pickle
import sys
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from rl_zoo3.utils import SimpleLinearSchedule
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

import sb3_atari_dqn
from sb3_atari_dqn import CustomDQN, SweepDQN
from sb3_atari_dqn.saving.inert_pickle import decode
from sb3_atari_dqn.saving.trust import UntrustedFileError
from sb3_atari_dqn.saving.values import ToZero
from sb3_atari_dqn.saving.zip_files import load_zip, revive
from tests.saving.models import (
    Touch,
    custom_dqn,
    observations_for,
    pickled,
    sweep_dqn,
    torch_file,
    with_values,
    with_weights,
)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "genuine.zip"
    custom_dqn(policy_kwargs={"activation_fn": nn.ReLU}).learn(20).save(path)
    return path


def make_models() -> dict[str, BaseAlgorithm]:
    small: dict[str, Any] = {"buffer_size": 20, "learning_starts": 4, "seed": 1}
    return {
        "ours": custom_dqn(
            learning_rate=SimpleLinearSchedule(1e-3), policy_kwargs={"activation_fn": nn.Tanh, "net_arch": [8]}
        ),
        "ours, n steps": custom_dqn(replay_buffer_class=None, replay_buffer_kwargs=None, n_steps=3, double_q=True),
        "sweep": sweep_dqn(),
        "dqn": DQN("MlpPolicy", "CartPole-v1", **small, policy_kwargs={"optimizer_class": th.optim.RMSprop}),
        "qrdqn": QRDQN("MlpPolicy", "CartPole-v1", **small),
        "ppo": PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=1, policy_kwargs={"activation_fn": nn.ELU}),
        "ppo_lstm": RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=1),
    }


@pytest.mark.parametrize("name", make_models())
def test_models_play_as_if_they_had_been_unpickled(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_models()[name].learn(16)
    model.save(tmp_path / "model.zip")
    expected = type(model).load(tmp_path / "model.zip")

    def refuse(*_: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(cloudpickle, "loads", refuse)
    loaded = load_zip(tmp_path / "model.zip", type(model))
    assert type(loaded) is type(model)
    for space in ("observation_space", "action_space"):
        assert getattr(loaded, space) == getattr(expected, space)
    assert vars(loaded).keys() == vars(expected).keys()
    for key in ("num_timesteps", "policy_class", "policy_kwargs", "train_freq", "replay_buffer_class", "n_updates", "n_steps"):
        assert getattr(loaded, key, None) == getattr(expected, key, None), key
    for progress in (1.0, 0.3):
        assert loaded.lr_schedule(progress) == expected.lr_schedule(progress)
    observations = observations_for(model)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], expected.predict(observations, deterministic=True)[0]
    )
    parameters, others = loaded.get_parameters(), expected.get_parameters()
    for key, weight in parameters["policy"].items():
        assert th.equal(weight, others["policy"][key])
    if name == "sweep":
        assert isinstance(loaded, SweepDQN)
        assert isinstance(expected, SweepDQN)
        assert loaded._random_generator.random() == expected._random_generator.random()
        assert loaded._last_rewards == expected._last_rewards != deque()


def test_load_finds_the_algorithm(genuine: Path, tmp_path: Path) -> None:
    assert type(sb3_atari_dqn.load(genuine)) is CustomDQN
    sweep_dqn().save(tmp_path / "sweep.zip")
    assert type(sb3_atari_dqn.load(str(tmp_path / "sweep.zip"))) is SweepDQN
    assert type(sb3_atari_dqn.load(genuine, trust=True)) is CustomDQN
    DQN("MlpPolicy", "CartPole-v1", buffer_size=2).save(tmp_path / "dqn.zip")
    with pytest.raises(ValueError, match="is not a model of CustomDQN or SweepDQN: load it with its own algorithm"):
        sb3_atari_dqn.load(tmp_path / "dqn.zip")


PICKLED_KEYS = [
    "policy_class",
    "policy_kwargs",
    "observation_space",
    "learning_rate",
    "lr_schedule",
    "_last_obs",
    "env",
    "anything",
]


@pytest.mark.parametrize("key", PICKLED_KEYS)
def test_a_malicious_file_runs_nothing_and_says_why(key: str, genuine: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = with_values(genuine, tmp_path / "malicious.zip", **{key: pickled(Touch(marker))})
    with pytest.raises(UntrustedFileError, match=rf"'{path}' is refused for '{key}': .*'posix.system'.*--trust.*trust=True"):
        sb3_atari_dqn.load(path)
    assert not marker.exists()


def test_the_same_file_runs_where_it_is_trusted(genuine: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    sb3_atari_dqn.load(with_values(genuine, tmp_path / "malicious.zip", anything=pickled(Touch(marker))), trust=True)
    assert marker.exists(), "the other tests show something"


def test_payloads_inside_of_what_is_allowed(genuine: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    box = spaces.Box(0, 1, (1,))
    box.low = Touch(marker)  # type: ignore[assignment]
    schedule = FloatSchedule(1.0)
    schedule.value_schedule = Touch(marker)  # type: ignore[assignment]
    for values in (
        {"policy_kwargs": pickled({"net_arch": [Touch(marker)]})},
        {"policy_kwargs": pickled(OrderedDict(activation_fn=Touch(marker)))},
        {"observation_space": pickled(box)},
        {"learning_rate": pickled(schedule)},
        {"replay_buffer_kwargs": pickled(deque([(Touch(marker),)]))},
    ):
        with pytest.raises(UntrustedFileError, match=r"'posix.system'"):
            sb3_atari_dqn.load(with_values(genuine, tmp_path / "malicious.zip", **values))
    assert not marker.exists()


@pytest.mark.parametrize(
    "named",
    [
        "builtins.eval",
        "builtins.getattr",
        "builtins.exec",
        "functools.partial",
        "importlib.import_module",
        "os.path.join",
        "torch.hub.load",
        "torch.nn.modules.activation.F",
        "torch.optim.Optimizer.__init__",
        "stable_baselines3.common.save_util.load_from_pkl",
        "stable_baselines3.dqn.policies.th",
        "sb3_atari_dqn.networks.extractors.find_by_name",
        "numpy.load",
    ],
)
def test_no_name_but_those_of_the_list(named: str, genuine: Path, tmp_path: Path) -> None:
    module, _, name = named.rpartition(".")
    program = (
        b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
    )
    for key in ("policy_class", "replay_buffer_class"):
        value = pickled(None) | {":serialized:": base64.b64encode(program).decode()}
        with pytest.raises(UntrustedFileError, match=r"--trust"):
            sb3_atari_dqn.load(with_values(genuine, tmp_path / "named.zip", **{key: value}))


def test_json_imports_nothing(genuine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "evil.zip"
    for key in ("features_extractor_class", "optimizer_class"):
        with pytest.raises(UntrustedFileError, match=r"refused for 'policy_kwargs': it names 'evil_module.Net'"):
            sb3_atari_dqn.load(with_values(genuine, path, policy_kwargs={key: "evil_module.Net"}))
    loaded = sb3_atari_dqn.load(with_values(genuine, path, env="evil_module:Game-v0", tensorboard_log=str(tmp_path / "tb")))
    assert loaded.env is None
    assert loaded.tensorboard_log is None, "it would write there"
    assert "evil_module" not in sys.modules
    assert not marker.exists()


def test_weights_run_nothing(genuine: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for weights in (torch_file({"q_net.weight": Touch(marker)}), pickle.dumps(Touch(marker))):
        path = with_weights(genuine, tmp_path / "weights.zip", weights)
        with pytest.raises(ValueError, match=r"cannot be loaded as CustomDQN: .*[Ww]eights"):
            sb3_atari_dqn.load(path)
    assert not marker.exists()


def test_functions_as_schedules_need_not_be_read(tmp_path: Path) -> None:
    model = PPO(
        "MlpPolicy", "CartPole-v1", n_steps=8, learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.1 * left
    )
    model.save(tmp_path / "model.zip")
    with pytest.warns(UserWarning, match="learning_rate is a function and was not read"):
        loaded = load_zip(tmp_path / "model.zip", PPO)
    observations = observations_for(model)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )


def same(value: Any, protocol: int = 5) -> Any:
    return revive(decode(cloudpickle.dumps(value, protocol)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_values_come_back(protocol: int) -> None:
    for space in (
        spaces.Box(0, 255, (2, 3), np.uint8),
        gym.make("CartPole-v1").observation_space,
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(-1, 1, (1,), np.float64)}),
    ):
        space.seed(1)
        assert same(space, protocol) == space
    for array in (
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.ones((2, 2), ">f4")),
        np.array(True),
        np.zeros((0, 3)),
    ):
        found = same(array, protocol)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
    assert same(TrainFreq(4, TrainFrequencyUnit.EPISODE), protocol) == TrainFreq(4, TrainFrequencyUnit.EPISODE)
    assert same(deque([1, 2], maxlen=3), protocol).maxlen == 3
    assert same({"a": (ReplayBuffer, nn.ReLU, {1, 2})}, protocol) == {"a": (ReplayBuffer, nn.ReLU, {1, 2})}
    for schedule in (ConstantSchedule(0.5), LinearSchedule(1, 0.1, 0.5), FloatSchedule(2), SimpleLinearSchedule(3), ToZero(3)):
        for progress in (1.0, 0.7, 0.0):
            assert same(schedule, protocol)(progress) == schedule(progress)
    generator = np.random.default_rng(3)
    generator.random(5)
    assert same(generator, protocol).random() == generator.random()


def test_spaces_of_gym() -> None:
    space = spaces.Discrete(4)
    assert revive(decode(pickle.dumps(space, 2).replace(b"cgymnasium.spaces", b"cgym.spaces"))) == space


def test_values_that_make_no_sense() -> None:
    array = pickle.dumps(np.zeros(4, np.uint8), 5)
    loop: list[Any] = []
    loop.append(loop)
    for program, message in (
        (pickle.dumps(np.array([None])), "'O8' is not a type of numbers|not a type of numbers"),
        (array.replace(b"K\x04\x85", b"K\x09\x85"), "size is not that of its data"),
        (pickle.dumps(loop), "contains itself"),
        (pickle.dumps(1j), "'builtins.complex'|complex"),
    ):
        with pytest.raises(ValueError, match=message):
            revive(decode(program))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "is not a model that Stable-Baselines3 saved"),
        (b"", "is not a model that Stable-Baselines3 saved"),
        (b"PK\x03\x04junk", "is not a model that Stable-Baselines3 saved: BadZipFile"),
    ],
)
def test_files_that_are_no_models(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        sb3_atari_dqn.load(tmp_path / "model.zip")


def test_a_truncated_zip_file(genuine: Path, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(genuine.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="is not a model that Stable-Baselines3 saved"):
        sb3_atari_dqn.load(tmp_path / "model.zip")
