"""PostgreSQL of the operating system (Debian: ``apt-get install postgresql``), an empty one for each test."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
from services.processes import free_port, running, wait_for

INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync")


class Database(NamedTuple):
    """Where a database listens, and who may use it."""

    port: int
    user: str
    password: str
    name: str

    def connection(self) -> psycopg.Connection:
        """An open connection."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=self.password, dbname=self.name
        )


def _program(name: str) -> str:
    """A program of the server. Debian keeps them out of PATH, a folder for each version."""
    here = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)
    for program in [shutil.which(name), *here]:
        if program:
            return program
    raise FileNotFoundError(f"{name} is not here; install PostgreSQL (Debian: apt-get install postgresql)")


@contextlib.contextmanager
def postgresql(password: str, name: str = "mlflow") -> Iterator[Database]:
    """A server with one database, whose owner is of the same name.

    It refuses to run as root, so that tests of root's run it as the user ``postgres``. Its files are in a folder
    of its own: those of pytest's are closed to other users.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
        RuntimeError: It did not start; its log is in the message.
    """
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="selftune-postgresql-"))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    try:
        secret = folder / "password"
        secret.write_text(password)
        if user:
            shutil.chown(folder, user, user)
            shutil.chown(secret, user, user)
        subprocess.run(
            [_program("initdb"), "--pgdata", folder / "data", "--username", name, "--pwfile", secret, *INITDB],
            check=True,
            capture_output=True,
            env=environment,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
        port = free_port()
        command = [_program("postgres"), "-D", folder / "data", "-p", port, "-k", folder, "-F"]
        command += ["-c", "listen_addresses=127.0.0.1"]
        log = folder / "log"
        with running([str(part) for part in command], log, environment, user) as process:
            every = Database(port, name, password, "postgres")
            wait_for(process, lambda: _answers(every), log)
            with every.connection() as connection:
                connection.autocommit = True
                connection.execute(f'CREATE DATABASE "{name}"')
            yield every._replace(name=name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(database: Database) -> bool:
    try:
        database.connection().close()
    except psycopg.OperationalError:
        return False
    return True
