"""Passwords in addresses of databases: kept out of what is shown and written."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: as SQLAlchemy reads it: a user up to the first colon, a password up to "@"; up to the last one, should it not be encoded
_IN_ADDRESS = re.compile(r"(\w[\w+.-]*://)(?:([^:/\s]*:)\S*|([^:/@\s]*:)[^@]*)@")
_IN_QUERY = re.compile(r"([?&]\w*(?:passw|pwd|secret)\w*=)[^&\s]*", re.IGNORECASE)


def hide_passwords(text: str) -> str:
    """
    :param text: anything, such as a command line with ``--storage postgresql://user:password@host/database``
    :return: the same with ``***`` in place of passwords, also where the address is none
    """
    return _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub(r"\1\2\3***@", text))


@contextmanager
def hidden_in_command() -> Iterator[None]:
    """A context in which ``sys.orig_argv``, which RL Zoo writes, has no passwords."""
    command = sys.orig_argv
    sys.orig_argv = [hide_passwords(argument) for argument in command]
    try:
        yield
    finally:
        sys.orig_argv = command
