"""What importing does, in fresh interpreters."""

import subprocess
import sys

import pytest

REGISTERED = """
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
assert all({"dqn_custom", "dqn_sweep"} <= table.keys() for table in (ALGOS, HYPERPARAMS_SAMPLER, HYPERPARAMS_CONVERTER))
assert ExperimentManager.objective.__wrapped__.__module__ == "rl_zoo3.exp_manager"
assert not hasattr(ExperimentManager.objective.__wrapped__, "__wrapped__"), "extended twice"
"""


def run(code: str) -> None:
    result = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_package_pulls_in_neither_rl_zoo_nor_optuna_nor_matplotlib() -> None:
    run("import sys, sb3_atari_dqn; assert not {'rl_zoo3', 'optuna', 'matplotlib'} & sys.modules.keys()")


def test_the_package_makes_atari_known_to_gymnasium() -> None:
    run("import gymnasium, sb3_atari_dqn; gymnasium.make('BreakoutNoFrameskip-v4')")


@pytest.mark.parametrize(
    "imports",
    [
        "import rl_zoo3.train",
        "import rl_zoo3.exp_manager",
        "import rl_zoo3, sb3_atari_dqn, rl_zoo3.import_envs",
        "import sb3_atari_dqn, rl_zoo3.exp_manager",
        "from rl_zoo3 import exp_manager; import sb3_atari_dqn",
        "from sb3_atari_dqn.zoo import register; register(); register()",
        "import sb3_atari_dqn.zoo.experiment, rl_zoo3.exp_manager",
    ],
)
def test_any_order_of_imports_registers_once(imports: str) -> None:
    run(f"{imports}\n{REGISTERED}")
