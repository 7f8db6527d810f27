"""Installed as the top-level module ``custom_envs``, which RL Zoo imports before it reads ``--algo``."""

import warnings

try:
    from sb3_atari_dqn.zoo import register
except Exception as error:  # RL Zoo would swallow an ImportError, and end at others, whatever --algo is
    warnings.warn(
        f"dqn_custom and dqn_sweep are missing in RL Zoo, because sb3_atari_dqn cannot be imported: {error!r}", stacklevel=2
    )
else:
    register()
