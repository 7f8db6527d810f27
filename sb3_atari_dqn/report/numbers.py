"""Numbers as the page's JSON holds them."""

import math
from collections.abc import Iterable

#: of scores, which are whole numbers of any size
SCORE_DIGITS = 10


def rounded(value: float, digits: int = 6) -> float | None:
    """
    :param value: any
    :param digits: how many to keep
    :return: its first digits; None if it is not finite, for which JSON has no number
    """
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def rounded_list(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """
    :param values: any
    :param digits: how many to keep
    :return: their first digits, see ``rounded``
    """
    return [rounded(float(value), digits) for value in values]
