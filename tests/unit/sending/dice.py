"""Dice that always fall the same way, so that a test knows the waiting times."""

from __future__ import annotations

import random


class HighestDice(random.Random):
    """Always draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b
