"""What the tests of aiomysql and asyncmy share: both packages, one server."""

from __future__ import annotations

import importlib

import pytest
import servers

from crawlo_otel_leaks.instrumentation.aiomysql import AiomysqlInstrumentor
from crawlo_otel_leaks.instrumentation.asyncmy import AsyncmyInstrumentor

PACKAGES = {"aiomysql": AiomysqlInstrumentor, "asyncmy": AsyncmyInstrumentor}
LEAKED = ("db.connection", "owner_finished")


@pytest.fixture(params=PACKAGES)
def package(request, rig):
    instrumentor = PACKAGES[request.param]()
    instrumentor.instrument()
    yield importlib.import_module(request.param)
    instrumentor.uninstrument()


def where():
    server = servers.mariadb()
    return {"host": server.host, "port": server.port, "user": server.user, "password": server.password, "db": "tests"}


def name():
    server = servers.mariadb()
    return f"{server.host}:{server.port}/tests"


async def one(connection):
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1")
        return await cursor.fetchone()
