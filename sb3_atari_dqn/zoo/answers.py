"""Asking somebody on the network for a sign of life, who may not answer."""

import threading
from collections.abc import Callable

#: seconds in which whoever is asked must have answered
SECONDS = 8


def failure_of(question: Callable[[], object]) -> Exception | None:
    """
    :param question: something that may take for ever, such as looking up the name of a host
    :return: what it raised, ``TimeoutError`` if it is not over within ``SECONDS``, or None
    """
    failures: list[Exception] = []

    def ask() -> None:
        try:
            question()
        except Exception as error:  # whatever those who answer raise
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        return TimeoutError(f"no answer within {SECONDS} seconds")
    return failures[0] if failures else None
