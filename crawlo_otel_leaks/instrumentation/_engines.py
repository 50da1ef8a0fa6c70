"""What SQLAlchemy's objects are called, and what is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_HAND: Final = (
    "sqlalchemy.engine.",
    "sqlalchemy.ext.asyncio.",
    "sqlalchemy.orm.scoping",
    "sqlalchemy.orm.session",
    "sqlalchemy.pool.",
)
"""Where the classes are of what a program has in hand; attributes of a mapped object would ask the database."""


def stand_in(pool: Any) -> str:
    """Return what a pool is called until its driver tells where it connects to: by its database, or its class."""
    return getattr(pool._dialect, "name", None) or type(pool).__name__  # noqa: SLF001  (no public name)


def driver(proxy: Any) -> Any:
    """Return the driver's connection behind a proxy, below the adapter of an asyncio one."""
    connection = proxy.dbapi_connection
    return getattr(connection, "driver_connection", connection)


def server(connection: Any) -> str | None:
    """Return `host:port/database` as the driver's connection tells it, None if it does not."""
    driver = getattr(connection, "driver_connection", connection)
    info = getattr(driver, "info", driver)  # of libpq's drivers
    address = getattr(driver, "_addr", None) or (getattr(info, "host", None), getattr(info, "port", None))
    database = getattr(info, "dbname", None) or getattr(getattr(driver, "_params", None), "database", "")
    place = address if isinstance(address, str) else ":".join(str(part) for part in address if part)
    return f"{place}/{database}" if place else None


def proxies(thing: Any) -> Iterator[object]:
    """Yield the proxies that an object of the library's has in use."""
    if not any(cls.__module__.startswith(_IN_HAND) for cls in type(thing).__mro__):
        return
    yield thing
    registry = getattr(thing, "registry", None)
    if registry is not None and hasattr(registry, "has"):  # of a scoped session, which would make one
        thing = registry() if registry.has() else None
    for name in ("sync_session", "sync_connection"):
        thing = getattr(thing, name, None) or thing
    yield getattr(thing, "_dbapi_connection", None)
    step = getattr(thing, "_transaction", None)
    while step is not None:  # a session's transaction has its connections, a savepoint in it none
        yield from (one[0]._dbapi_connection for one in getattr(step, "_connections", {}).values())  # noqa: SLF001
        step = getattr(step, "_parent", None)
