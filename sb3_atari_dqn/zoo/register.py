"""Registration of our algorithms in RL Zoo's tables."""

import sys
import warnings

import rl_zoo3

from sb3_atari_dqn.dqn import CustomDQN

#: our algorithms, by the name that RL Zoo's ``--algo`` takes
ALGORITHMS = {"dqn_custom": CustomDQN}

_REPAIR = (
    "sb3-atari-dqn does not find what it needs in rl_zoo3 {version}, so {names} cannot be used: {error!r}. "
    "Install a version it knows: pip install 'rl-zoo3>=2.9.2,<2.10'"
)


def register() -> None:
    """
    Make RL Zoo know our algorithms; doing so again changes nothing.

    RL Zoo calls this through the module ``custom_envs``. A program that imports ``rl_zoo3.exp_manager`` itself and
    wants to tune with it calls this afterwards.
    """
    try:
        _register()
    except Exception as error:  # RL Zoo's other algorithms go on working
        message = _REPAIR.format(version=getattr(rl_zoo3, "__version__", "?"), names=", ".join(ALGORITHMS), error=error)
        warnings.warn(message, stacklevel=2)


def _register() -> None:
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    from rl_zoo3.utils import ALGOS

    from sb3_atari_dqn.zoo.search_space import convert, sample

    ALGOS.update(ALGORITHMS)
    for name in ALGORITHMS:
        HYPERPARAMS_SAMPLER[name] = sample
        HYPERPARAMS_CONVERTER[name] = convert  # type: ignore[assignment]  # differs in the parameter's name only

    # Where a script imports exp_manager first (record_video), it is in the middle of being imported now
    manager_module = sys.modules.get("rl_zoo3.exp_manager")
    if manager_module is None or hasattr(manager_module, "ExperimentManager"):
        from rl_zoo3.exp_manager import ExperimentManager

        from sb3_atari_dqn.zoo.experiment import extend

        extend(ExperimentManager)
