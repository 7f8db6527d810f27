"""Waiting for what others do, not for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

#: seconds after which nothing comes any more, however busy the machine is
LONG = 900

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found | None], tell: Callable[[], str] = lambda: "") -> Found:
    """
    :param condition: what is waited for: something that is true
    :param tell: what to say if it does not come
    :return: what it is in the end
    """
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"what was waited for did not come in {LONG} seconds. {tell()}")
