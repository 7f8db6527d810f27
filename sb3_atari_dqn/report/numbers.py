"""Numbers as the page's JSON holds them."""

import math
from collections.abc import Iterable


def rounded(value: float) -> float | None:
    """
    :param value: any
    :return: its first six digits; None if it is not finite, for which JSON has no number
    """
    return float(f"{value:.6g}") if math.isfinite(value) else None


def rounded_list(values: Iterable[float]) -> list[float | None]:
    """
    :param values: any
    :return: their first six digits, see ``rounded``
    """
    return [rounded(float(value)) for value in values]
