"""Passwords in addresses of databases: kept out of what is shown and written."""

import re

_IN_ADDRESS = re.compile(r"(\w[\w+.-]*://[^:/@\s]*:)[^@\s]*@")
_IN_QUERY = re.compile(r"([?&]password=)[^&\s'\"]*", re.IGNORECASE)


def hide_passwords(text: str) -> str:
    """
    :param text: anything, such as a command line with ``--storage postgresql://user:password@host/database``
    :return: the same with ``***`` in place of passwords
    """
    return _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub(r"\1***@", text))
