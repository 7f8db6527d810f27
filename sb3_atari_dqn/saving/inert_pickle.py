"""Reading a pickle without running it.

A pickle is a small program: it names functions and classes, calls them, and hands the results to others. Here each name
stands for a ``Record`` that calls nothing and keeps what it was given, so that the outcome is a description of the object.
There is no list of what is harmless to call, because nothing is called; what a description may become is decided by whoever
reads it (``zip_files``).
"""

import io
import pickle
from collections.abc import Iterable
from typing import Any, ClassVar


class Record:
    """
    What a pickle wanted to make: ``name(*arguments)``, or the result of another record if that was called.

    :param arguments: what it was called with
    """

    name: ClassVar[str] = "?"

    arguments: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Record":
        """Take anything: ``pickle`` calls this in place of the function or class."""
        record = object.__new__(cls)
        record.arguments = (*arguments, *keywords.items())
        record.state = None
        record.items = []
        return record

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """See ``__new__``."""

    def __call__(self, *arguments: Any, **keywords: Any) -> "Record":
        """
        :param arguments: what the result of a call is called with
        :param keywords: likewise
        :return: a record of the same name
        """
        return type(self)(*arguments, **keywords)

    def __setstate__(self, state: Any) -> None:
        """
        :param state: attributes, to be kept as they are
        """
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """
        :param key: of a dictionary's item
        :param value: of it
        """
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        """
        :param item: of a list, to be kept
        """
        self.items.append(item)

    def extend(self, items: Iterable[Any]) -> None:
        """
        :param items: of a list, to be kept
        """
        self.items.extend(items)

    add = append


class _Decoder(pickle.Unpickler):
    """
    Gives records for names.

    :param file: the pickle
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.names: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """
        :param module: what the pickle would import
        :param name: what it would take from there
        :return: a class of records for it
        """
        self.names.append(f"{module}.{name}")
        return type(name, (Record,), {"name": self.names[-1]})


def decode(pickled: bytes) -> Any:
    """
    :param pickled: a pickle, whatever is in it
    :return: what it describes: numbers, text, bytes, lists, tuples, dictionaries and sets as they are, objects as ``Record``,
        functions and classes as classes of ``Record``
    :raises ValueError: if it is damaged, or does what only code can do
    """
    decoder = _Decoder(io.BytesIO(pickled))
    try:
        return decoder.load()
    except Exception as error:  # whatever a damaged pickle makes of records
        raise ValueError(
            f"it holds a pickle that cannot be read ({error!r}); it names {', '.join(decoder.names) or 'nothing'}"
        ) from error
