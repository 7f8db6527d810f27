"""A PostgreSQL server for a test, on loopback, in a folder of its own; and a way to it that can be cut."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PASSWORD = "open-sesame"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def find_program(name: str) -> str:
    """
    :param name: of one of the server's programs
    :return: its path; Debian keeps them away from PATH
    """
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    path = str(debian[-1]) if debian else shutil.which(name)
    if path is None:
        pytest.skip(f"PostgreSQL is not installed ({name} is missing): apt-get install postgresql")
    return path


class Server:
    """
    A server with one database, ``studies``.

    :param folder: for its files
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._programs = {name: find_program(name) for name in ("initdb", "pg_ctl")}
        self._user: str | None = None
        if os.getuid() == 0:  # the server refuses to be root
            self._user = next(user for user in ("postgres", "nobody") if user in {entry.pw_name for entry in pwd.getpwall()})
            shutil.chown(folder, self._user)
        self._data = folder / "data"
        self._folder = folder
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        self._run("initdb", "-U", "tester", "-A", "scram-sha-256", f"--pwfile={password_file}", "--no-sync")
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(folder / "log.txt"), "-o", settings, "start")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs[program], "-D", str(self._data), *arguments],
            check=True,
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def address(self, port: int | None = None, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql://tester:{password}@127.0.0.1:{port or self.port}/{database}"

    def stop(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop")


class Cable:
    """
    Hands connections on to a server, until it is cut.

    :param port: of the server
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.n_connections = 0
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Drop all connections, and refuse new ones."""
        assert self._listener is not None
        for end in (self._listener, *self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self.n_connections += 1
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server for as long as the context lasts. Its folder is not one of pytest's, which are for their owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.stop()
