"""Editable installations get the two files that RL Zoo looks for, as wheels do by ``force-include``."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableFiles(BuildHookInterface):  # type: ignore[type-arg]  # generic only for type checkers
    """Copies into site-packages; pip removes them again on uninstall."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """
        :param version: "editable" or "standard"
        :param build_data: what hatchling builds from
        """
        if version == "editable":
            for source, target in self.build_config.force_include.items():
                if not target.startswith("sb3_atari_dqn/"):
                    build_data["force_include_editable"][source] = target
