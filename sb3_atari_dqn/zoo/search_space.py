"""Optuna's search space: what matters for DQN on Atari, in ranges that hold what has been published.

A trial's parameters are plain numbers and names. ``suggest`` draws them and ``convert`` makes hyperparameters of them:
while tuning, and again when a trial is trained anew. The space is the same for every trial of a study, as the
multivariate sampler wants it.
"""

import copy
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import optuna

from sb3_atari_dqn.replay.buffer import FrameReplayBuffer

#: the preset's hyperparameters while a trial runs; sampled values are laid over them
preset_of_trial: ContextVar[dict[str, Any] | None] = ContextVar("preset_of_trial", default=None)

#: Optuna's choices are never None
_PLAIN = "none"

#: units behind the convolutions, of the network's paper
_UNITS = {"NipsCNN": 256, "NatureCNN": 512}

#: networks for Atari's stacked frames that a trial can choose from. TutorialCNN has 38 million parameters and belongs
#: to the motion tracer: a preset that uses it, or a network of your own, keeps it.
NETWORKS = tuple(_UNITS)


def suggest(trial: optuna.Trial, preset: dict[str, Any], n_envs: int = 1) -> dict[str, Any]:
    """
    :param trial: draws the parameters
    :param preset: hyperparameters that the sampled ones are laid over
    :param n_envs: number of environments
    :return: the trial's parameters
    """
    # Adam: Dopamine 6.25e-5, RL Zoo 1e-4, Nature 2.5e-4 (RMSProp)
    trial.suggest_float("learning_rate", 2e-5, 1e-3, log=True)
    # 32 everywhere until Beyond The Rainbow's 256; larger ones pay only with several environments
    trial.suggest_categorical("batch_size", [32, 64, 128])
    # tutorial 16: 0.03; Nature: 0.01; Beyond The Rainbow: 0.003
    trial.suggest_float("one_minus_gamma", 0.003, 0.05, log=True)
    # agent steps per update; Nature: 4
    if preset.get("update_period") is None:
        trial.suggest_categorical("train_freq", [1, 2, 4, 8])
    else:
        trial.suggest_categorical("update_period", [n for n in (1, 2, 4, 8) if n % n_envs == 0 or n_envs % n == 0])
    # shares of the run; Nature: 2 % (of 50 million frames), RL Zoo: 10 %
    trial.suggest_float("exploration_fraction", 0.01, 0.5, log=True)
    # from 1.0; RL Zoo 0.01, Nature 0.1
    trial.suggest_float("exploration_final_eps", 0.005, 0.2, log=True)
    trial.suggest_categorical("loss", ["huber", "mse"])
    # matters for huber only; raw rewards of tens and hundreds want more than Nature's 1
    trial.suggest_float("huber_delta", 0.1, 10.0, log=True)
    trial.suggest_categorical("clip_rewards", [True, False])
    has_target_network = preset.get("target_update_interval", 0) is not None
    if has_target_network:
        # agent steps; RL Zoo 1,000, Nature 40,000; no target network stays none
        trial.suggest_int("target_update_interval", 100, 40_000, log=True)
    # what is taken as the next action; Munchausen takes none, and without a target network double Q-learning is greedy
    trial.suggest_categorical("backup", ["greedy", "double", "munchausen"] if has_target_network else ["greedy", "munchausen"])
    # Rainbow 3, Beyond The Rainbow 3
    if _folds_steps(preset):
        trial.suggest_categorical("n_steps", [1, 2, 3, 5])
    trial.suggest_categorical("distribution", [_PLAIN, "categorical", "quantile", "implicit-quantile"])
    # matters for categorical only; C51 10, with clipped rewards
    trial.suggest_float("v_max", 5.0, 100.0, log=True)
    trial.suggest_categorical("dueling", [False, True])
    # with epsilon beside it, which may become small
    trial.suggest_categorical("noisy", [False, True])
    if _has_frame_replay(preset):
        # 0 draws all with equal probability; Beyond The Rainbow 0.2, Rainbow 0.5, Schaul et al. 0.6
        trial.suggest_float("priority_exponent", 0.0, 0.8)
    if _network_is_open(preset):
        trial.suggest_categorical("features_extractor_class", NETWORKS)
    return dict(trial.params)


def _has_frame_replay(preset: dict[str, Any]) -> bool:
    return preset.get("replay_buffer_class") in ("FrameReplayBuffer", FrameReplayBuffer)


def _folds_steps(preset: dict[str, Any]) -> bool:
    """Whether the preset's replay memory has returns of several steps."""
    is_sb3s_choice = preset.get("replay_buffer_class") is None and preset.get("policy") != "MultiInputPolicy"
    return _has_frame_replay(preset) or (is_sb3s_choice and not preset.get("optimize_memory_usage", False))


def _network_is_open(preset: dict[str, Any]) -> bool:
    """Whether the preset learns from images with a network that the search may exchange."""
    extractor = _policy_kwargs(preset).get("features_extractor_class", "NatureCNN")
    return preset.get("policy") == "CnnPolicy" and getattr(extractor, "__name__", extractor) in NETWORKS


def _policy_kwargs(preset: dict[str, Any]) -> dict[str, Any]:
    return preset.get("policy_kwargs") or {}


def convert(params: dict[str, Any]) -> dict[str, Any]:
    """
    :param params: a trial's parameters
    :return: hyperparameters to lay over a preset with ``lay_over``
    """
    hyperparams = dict(params)
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    if "train_freq" in hyperparams:
        hyperparams["gradient_steps"] = 1
    hyperparams["exploration_initial_eps"] = 1.0
    # studies from before there were extensions lack them
    policy_kwargs: dict[str, Any] = {"dueling": hyperparams.pop("dueling", False), "distribution_kwargs": {}}
    policy_kwargs["noisy_sigma"] = 0.5 if hyperparams.pop("noisy", False) else None

    distribution, v_max = hyperparams.pop("distribution", _PLAIN), hyperparams.pop("v_max", 10.0)
    policy_kwargs["distribution"] = None if distribution == _PLAIN else distribution
    if distribution == "categorical":
        policy_kwargs["distribution_kwargs"] = {"v_min": -v_max, "v_max": v_max}
        hyperparams["loss"] = None
    elif distribution != _PLAIN:
        hyperparams["loss"] = "huber"
    if hyperparams["loss"] != "huber":
        hyperparams["huber_delta"] = 1.0

    backup = hyperparams.pop("backup", "greedy")
    # where it does not work, what comes nearest
    hyperparams["munchausen"] = backup == "munchausen" and distribution != "categorical"
    has_target_network = "target_update_interval" in hyperparams
    hyperparams["double_q"] = backup != "greedy" and not hyperparams["munchausen"] and has_target_network
    hyperparams["munchausen_kwargs"] = None

    if "priority_exponent" in hyperparams:
        hyperparams["replay_buffer_kwargs"] = {"priority_exponent": hyperparams.pop("priority_exponent")}
    extractor = hyperparams.pop("features_extractor_class", None)
    if extractor is not None:
        # units behind the convolutions are the head's, which may have two streams of them
        policy_kwargs["features_extractor_class"] = extractor
        policy_kwargs["features_extractor_kwargs"] = {"features_dim": None}
        policy_kwargs["net_arch"] = [_UNITS[extractor]]
    hyperparams["policy_kwargs"] = policy_kwargs
    return hyperparams


def lay_over(preset: dict[str, Any], hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    :param preset: hyperparameters
    :param hyperparams: changes to them
    :return: all of them; ``policy_kwargs`` and ``replay_buffer_kwargs`` of both are merged, so that what the preset has there
        and the changes do not mention survives
    """
    merged = {**preset, **hyperparams}
    for name in ("policy_kwargs", "replay_buffer_kwargs"):
        if name in hyperparams:
            merged[name] = {**(preset.get(name) or {}), **hyperparams[name]}
    return copy.deepcopy(merged)


def suggest_sweep(trial: optuna.Trial, preset: dict[str, Any], n_envs: int = 1) -> dict[str, Any]:
    """
    :param trial: draws the parameters of ``SweepDQN``
    :param preset: hyperparameters that the sampled ones are laid over
    :param n_envs: number of environments
    :return: the trial's parameters
    :raises ValueError: if the memory is too small for every choice
    """
    # tutorial 16: 1e-3, 128, 0.03, 0.1, 5, 0.1, 0.1, 0.5, and a million states; signals end where the preset has it
    trial.suggest_float("learning_rate", max(1e-4, preset.get("final_learning_rate", 1e-5)), 3e-3, log=True)
    batch_sizes = [64, 128, 256]
    trial.suggest_categorical("batch_size", batch_sizes)
    trial.suggest_float("one_minus_gamma", 0.003, 0.05, log=True)
    trial.suggest_float("loss_limit", max(0.02, preset.get("final_loss_limit", 0.015)), 0.3, log=True)
    trial.suggest_float("max_epochs", 1, min(10, preset.get("final_max_epochs", 10)))
    room = preset.get("buffer_size", 200_000) // n_envs * n_envs
    least, most = max(0.05, (max(batch_sizes[-1], 2 * n_envs) + 1) / room), min(0.5, preset.get("final_replay_fraction", 1.0))
    if least > most:
        raise ValueError(f"buffer_size={room} is too small to be tuned: a fit needs up to {batch_sizes[-1]} states")
    trial.suggest_float("replay_fraction", least, most, log=True)
    trial.suggest_float("error_threshold", 0.03, 0.3, log=True)
    trial.suggest_float("large_error_share", 0.0, 0.8)
    # a short trial that explored for a million states would do nothing else
    trial.suggest_int("exploration_steps", 10_000, 1_000_000, log=True)
    trial.suggest_float("exploration_final_eps", 0.01, 0.2, log=True)
    trial.suggest_categorical("clip_rewards", [True, False])
    return dict(trial.params)


def convert_sweep(params: dict[str, Any]) -> dict[str, Any]:
    """
    :param params: a trial's parameters
    :return: hyperparameters of ``SweepDQN``
    """
    hyperparams = dict(params)
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    return hyperparams


class SearchSpace(NamedTuple):
    """
    :param suggest: draws a trial's parameters, from trial, preset and number of environments
    :param convert: makes hyperparameters of them, to lay over a preset with ``lay_over``
    """

    suggest: Callable[[optuna.Trial, dict[str, Any], int], dict[str, Any]]
    convert: Callable[[dict[str, Any]], dict[str, Any]]

    def sample(self, trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        """
        What RL Zoo calls for each trial.

        :param trial: draws the parameters
        :param n_actions: not used
        :param n_envs: number of environments
        :param additional_args: not used
        :return: hyperparameters of the trial; RL Zoo replaces whole keys of the preset with them
        """
        preset = preset_of_trial.get() or {}
        return lay_over(preset, self.convert(self.suggest(trial, preset, n_envs)))


#: of each algorithm
SEARCH_SPACES = {"dqn_custom": SearchSpace(suggest, convert), "dqn_sweep": SearchSpace(suggest_sweep, convert_sweep)}
