"""Watches whether a network predicts every class, and says once, in plain words, when it never learned one."""

from collections.abc import Mapping
from typing import Any

SILENT_AFTER = 3
"""A class is silent when so many validations in a row predicted it nowhere."""

SILENT = "predicted nowhere"
"""What warnings of silent classes begin with."""


class SilentClasses:
    """Counts, for one run, the validations in a row that predicted a class nowhere although their cases have it."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self.told: set[str] = set()

    def look(self, silent: Mapping[str, int]) -> str:
        """Take note of a validation.

        Args:
            silent: Classes that it predicted nowhere, each with the number of its cases that have the class.

        Returns:
            A warning, at the validation at which a class is found silent for the first time; else empty.
        """
        self.count = {name: self.count.get(name, 0) + 1 for name in silent}
        new = [name for name in self.silent if name not in self.told]
        self.told.update(new)
        if not new:
            return ""
        named = ", ".join(f"{name} (in {silent[name]} validation case{'s' * (silent[name] > 1)})" for name in new)
        return (
            f"{SILENT} in {SILENT_AFTER} validations in a row: {named}. A class that is learned late or never moves "
            "mean Dice by more than most strategies do; compare runs class by class. What may help: more steps, a "
            "higher loss.dice, loss.class_weights."
        )

    @property
    def silent(self) -> list[str]:
        """Classes that are silent now."""
        return [name for name, count in self.count.items() if count >= SILENT_AFTER]

    @property
    def last_words(self) -> str:
        """What to note of the finished run; empty where every class was predicted."""
        return f"{SILENT} in the last validations: {', '.join(self.silent)}" if self.silent else ""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"count": dict(self.count), "told": sorted(self.told)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state_dict`` returned; nothing is known of a checkpoint of earlier versions."""
        self.count, self.told = dict(state.get("count", {})), set(state.get("told", ()))
