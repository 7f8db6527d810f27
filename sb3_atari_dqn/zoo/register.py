"""Registration of our algorithms in RL Zoo's tables."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.dqn import CustomDQN
from sb3_atari_dqn.sweep_dqn import SweepDQN

#: our algorithms, by the name that RL Zoo's ``--algo`` takes
ALGORITHMS: dict[str, type[QLearningAlgorithm]] = {"dqn_custom": CustomDQN, "dqn_sweep": SweepDQN}

_MANAGER_MODULE = "rl_zoo3.exp_manager"


def register() -> None:
    """
    Make RL Zoo know our algorithms; doing so again changes nothing.

    RL Zoo calls this through the module ``custom_envs``, wherever its scripts import their environments.
    """
    with _give_up_if_rl_zoo_has_changed():
        from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
        from rl_zoo3.utils import ALGOS

        from sb3_atari_dqn.zoo.search_space import SEARCH_SPACES

        for name, algorithm in ALGORITHMS.items():
            ALGOS.setdefault(name, algorithm)
            HYPERPARAMS_SAMPLER[name] = SEARCH_SPACES[name].sample
            HYPERPARAMS_CONVERTER[name] = SEARCH_SPACES[name].convert  # type: ignore[assignment]  # differs in the parameter's name only

        manager_module = sys.modules.get(_MANAGER_MODULE) or importlib.import_module(_MANAGER_MODULE)
        if "ExperimentManager" in vars(manager_module):
            _extend_manager(manager_module)
        else:
            manager_module.__class__ = _UnfinishedModule


def _extend_manager(manager_module: ModuleType) -> None:
    from sb3_atari_dqn.zoo.experiment import extend

    extend(vars(manager_module)["ExperimentManager"])


class _UnfinishedModule(ModuleType):
    """
    ``rl_zoo3.exp_manager`` where it is itself what imports ``custom_envs``: it has no ``ExperimentManager`` to extend
    yet. That is done when the first one takes the class out of the module.
    """

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "ExperimentManager":
            self.__class__ = ModuleType  # type: ignore[assignment]  # back to what it was
            with _give_up_if_rl_zoo_has_changed():
                _extend_manager(self)
        return value


@contextmanager
def _give_up_if_rl_zoo_has_changed() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # RL Zoo's other algorithms go on working
        for name in ALGORITHMS:
            getattr(sys.modules.get("rl_zoo3.utils"), "ALGOS", {}).pop(name, None)
        warnings.warn(
            f"sb3-atari-dqn does not find what it needs in rl_zoo3 {metadata.version('rl-zoo3')} and optuna "
            f"{metadata.version('optuna')}, so {', '.join(ALGORITHMS)} cannot be used: {error!r}. "
            "Install versions it knows: pip install 'rl-zoo3>=2.9.2,<2.10' 'optuna>=4.9,<6'",
            stacklevel=4,
        )
