"""redis-py and valkey-py under watch, each test with both, against a real server."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import servers

from crawlo_otel_leaks.instrumentation.redis import RedisInstrumentor, ValkeyInstrumentor

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTRUMENTORS = {"redis": RedisInstrumentor, "valkey": ValkeyInstrumentor}
LEAKED = ("redis.connection", "owner_finished")


class Package:
    """What both packages call the same, but for the name that their classes begin with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = importlib.import_module(name)
        self.asyn = importlib.import_module(f"{name}.asyncio")
        self.sentinel = importlib.import_module(f"{name}.sentinel")
        self.errors = self.module.exceptions

    def client(self, where: dict[str, Any] | None = None, **options: Any) -> Any:
        return getattr(self.module, self.name.capitalize())(**where or {}, **options)

    def async_client(self, where: dict[str, Any] | None = None, **options: Any) -> Any:
        return getattr(self.asyn, self.name.capitalize())(**where or {}, **options)

    def cluster(self, where: tuple[str, int]) -> Any:
        return getattr(self.module, f"{self.name.capitalize()}Cluster")(host=where[0], port=where[1])

    def async_cluster(self, where: tuple[str, int], **options: Any) -> Any:
        return getattr(self.asyn, f"{self.name.capitalize()}Cluster")(host=where[0], port=where[1], **options)


@pytest.fixture(params=INSTRUMENTORS)
def package(request: pytest.FixtureRequest, rig: Any) -> Iterator[Package]:
    pytest.importorskip(request.param)
    instrumentor = INSTRUMENTORS[request.param]()
    instrumentor.instrument()
    rig.runtime.tick()
    yield Package(request.param)
    instrumentor.uninstrument()


@pytest.fixture
def where() -> dict[str, Any]:
    host, port = servers.valkey()
    return {"host": host, "port": port}


@pytest.fixture
def client(package: Package, where: dict[str, Any]) -> Iterator[Any]:
    made = package.client(where)
    yield made
    made.close()
    made.connection_pool.disconnect()
