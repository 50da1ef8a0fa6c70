"""Prints what servers the tests run against, as they say it themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pymongo
import pymysql
import pytest
import redis

sys.path.insert(0, str(Path(__file__).parents[1]))

import servers


def mariadb() -> str:
    """Return MariaDB's or MySQL's name and version."""
    with pymysql.connect(**servers.mariadb()._asdict()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        version = str(cursor.fetchone()[0])
    return version if "MariaDB" in version else f"{version}-MySQL"


def postgres() -> str:
    """Return PostgreSQL's name and version."""
    with psycopg.connect(servers.postgres()) as connection:
        return str(connection.execute("SELECT version()").fetchone()[0]).partition(" on ")[0]


def valkey() -> str:
    """Return Valkey's or Redis's name and version."""
    info = redis.Redis(*servers.valkey()).info("server")
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version')}"


def mongo() -> str:
    """Return MongoDB's version, or FerretDB's and the one that it stands for."""
    with pymongo.MongoClient(servers.mongo()) as client:
        info = client.server_info()
    ferret = info.get("ferretdbVersion")
    return f"FerretDB {ferret} as MongoDB {info['version']}" if ferret else f"MongoDB {info['version']}"


for server in (mariadb, postgres, valkey, mongo):
    try:
        print(server())  # noqa: T201  (a script that prints)
    except pytest.skip.Exception as reason:
        print(reason)  # noqa: T201  (see above)
