"""The connections of database drivers explain their descriptors while they are open, and no others afterwards."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import psycopg2
import pymysql
import pytest
import servers
import sqlalchemy
from mysql_steps import a_pool, package, where  # noqa: F401  (a fixture)

from crawlo_otel_leaks.instrumentation.asyncpg import AsyncpgInstrumentor
from crawlo_otel_leaks.instrumentation.psycopg import PsycopgInstrumentor
from crawlo_otel_leaks.instrumentation.psycopg2 import Psycopg2Instrumentor
from crawlo_otel_leaks.instrumentation.pymysql import PyMySQLInstrumentor
from crawlo_otel_leaks.instrumentation.sqlalchemy import SqlAlchemyInstrumentor


def numbers(rig):
    """What the handles explain, all of which must be sockets."""
    found = rig.runtime.vitals._explained()
    open_now = rig.runtime.vitals._descriptors()
    assert {open_now[number].type for number in found} <= {"socket"}
    return found


DRIVERS = {
    "psycopg": (PsycopgInstrumentor, lambda: psycopg.connect(servers.postgres())),
    "psycopg2": (Psycopg2Instrumentor, lambda: psycopg2.connect(servers.postgres())),
    "pymysql": (PyMySQLInstrumentor, lambda: pymysql.connect(**where())),
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_connection_explains_its_own_while_it_is_open(rig, driver):
    instrumentor, connect = DRIVERS[driver]
    instrumentor().instrument()
    connection = connect()
    (handle,) = rig.held
    number = connection.fileno() if hasattr(connection, "fileno") else connection._sock.fileno()
    assert numbers(rig) == {number}
    connection.close()
    assert list(handle.descriptors()) == []
    instrumentor().uninstrument()


def test_so_does_one_of_asyncpgs(rig):
    AsyncpgInstrumentor().instrument()

    async def main():
        async with asyncpg.create_pool(servers.postgres(), min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                (handle,) = rig.held
                assert numbers(rig) == {connection._transport.get_extra_info("socket").fileno()}
            assert list(handle.descriptors()) == []

    asyncio.run(main())
    AsyncpgInstrumentor().uninstrument()


def test_so_does_one_of_a_mysql_pools(rig, package):  # noqa: F811  (the fixture)
    async def main():
        async with a_pool(package, minsize=1, maxsize=1) as pool, pool.acquire():
            assert len(numbers(rig)) == 1

    asyncio.run(main())


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_so_does_one_of_an_engines(rig, driver):
    SqlAlchemyInstrumentor().instrument()
    url = servers.postgres().replace("postgresql://", f"postgresql+{driver}://")
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        own = connection.connection.dbapi_connection
        assert numbers(rig) == {own.fileno()}
    assert numbers(rig) == set()
    engine.dispose()
    SqlAlchemyInstrumentor().uninstrument()
