"""Which server the arguments of a connect name: never more than host, port and database."""

from __future__ import annotations

import pytest

from crawlo_otel_leaks.instrumentation._postgres import is_crowded, target


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("dsn", "named", "name"),
    [
        ("postgresql://me:s3cret@db:6543/app", {}, "db:6543/app"),
        ("postgres://db/app?application_name=x", {}, "db:5432/app"),
        ("postgresql://me:p%40ss@db", {}, "db:5432/me"),
        ("postgresql://me:s3:cret@[::1]:6543/app", {}, "[::1]:6543/app"),
        ("postgresql://[::1]/app", {}, "[::1]:5432/app"),
        ("postgresql://a:1,b:2/app", {}, "a,b:1,2/app"),
        ("postgresql:///app?host=/run/db&port=1&password=s3cret", {}, "/run/db:1/app"),
        ("postgresql://%2Frun%2Fdb/my%20app", {}, "/run/db:5432/my app"),
        ("host=db port=6543 dbname=app password=s3cret", {}, "db:6543/app"),
        (r"dbname = 'my app' password='s3 cr\'et host=no' host=db", {}, "db:5432/my app"),
        ("hostaddr=10.0.0.1 user=me", {}, "10.0.0.1:5432/me"),
        ("postgresql://db/app", {"host": "other", "port": 1, "password": "s3cret"}, "other:1/app"),
        ("", {"host": ["a", "b"], "port": [1, 2], "database": "app"}, "a,b:1,2/app"),
        ("", {"host": None, "dbname": "app"}, "localhost:5432/app"),
        (None, {}, "localhost:5432/"),
        ("", {}, "localhost:5432/"),
        (lambda: "s3cret", {}, "localhost:5432/"),
    ],
)
def test_the_name_of_a_server(dsn, named, name):
    assert target(dsn, named) == name


def test_the_environment_names_what_the_arguments_do_not(monkeypatch):
    monkeypatch.setenv("PGHOST", "db")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGUSER", "me")
    assert target("", {}) == "db:6543/me"
    monkeypatch.setenv("PGDATABASE", "app")
    assert target("postgresql://other", {}) == "other:6543/app"


def test_who_is_refused_for_there_being_too_many():
    class OperationalError(Exception):
        pass

    assert is_crowded(OperationalError("FATAL:  sorry, too many clients already"))
    assert is_crowded(OperationalError('FATAL:  too many connections for role "app"'))
    assert not is_crowded(OperationalError("Connection refused"))
    assert not is_crowded(ValueError("too many connections"))
