"""What keeps MySQL connections for its own: SQLAlchemy on each driver, and a parent whose child was forked."""

from __future__ import annotations

import asyncio

import programs
import pytest
import servers
from mysql_steps import PACKAGES
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from crawlo_otel_leaks.instrumentation.pymysql import PyMySQLInstrumentor


def url(driver):
    server = servers.mariadb()
    return f"mysql+{driver}://{server.user}:{server.password}@{server.host}:{server.port}/{server.database}"


@pytest.mark.parametrize("driver", PACKAGES)
def test_connections_of_an_async_engine_are_the_engines(rig, driver):
    async def main():
        engine = create_async_engine(url(driver))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
            assert rig.held == []
        await engine.dispose()

    PACKAGES[driver]().instrument()
    asyncio.run(main())
    PACKAGES[driver]().uninstrument()


def test_connections_of_an_engine_are_the_engines(rig):
    PyMySQLInstrumentor().instrument()
    engine = create_engine(url("pymysql"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
        assert rig.held == []
    engine.dispose()
    PyMySQLInstrumentor().uninstrument()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_forked_child_holds_none_of_its_parents(tmp_path, monkeypatch, package):
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    server = servers.mariadb()
    body = f"""
import asyncio, {package} as package
from crawlo_otel_leaks import runtime

def held():
    return sum(one.kind == "db.connection" for one in runtime.current().tracker.held())

async def main():
    pool = await package.create_pool(
        host={server.host!r}, port={server.port}, user={server.user!r}, password={server.password!r}, db="tests"
    )
    connection = await pool.acquire()
    assert held() == 1
    pid = os.fork()
    if not pid:
        os._exit(3 + held())
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    pool.release(connection)
    pool.close()
    await pool.wait_closed()

asyncio.run(main())
"""
    done = programs.run(tmp_path, programs.source(body), REPORT="out.json", **programs.NO_TICK)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "3\n", False)
    assert programs.leaks(tmp_path / "out.json") == []
