"""A pool of one connection that is watched, in C or in Python."""

from __future__ import annotations

from types import SimpleNamespace

from crawlo_otel_leaks import swift
from crawlo_otel_leaks.instrumentation._postgres import PooledHandle, PostgresWatch
from crawlo_otel_leaks.pool import Limits, Pools
from crawlo_otel_leaks.settings import Settings
from crawlo_otel_leaks.sites import Sites
from crawlo_otel_leaks.tracker import Tracker


class Special(PooledHandle):
    __slots__ = ()


class Watch(PostgresWatch):
    def name(self, pool):
        return "pool"

    def limits(self, pool):
        return Limits()

    def new_handle(self, frame):
        return (Special if frame.f_code.co_name == "keeper" else PooledHandle)(self.kind)

    def refused(self, pool, error):
        return isinstance(error, LookupError)


class Connection:
    """Comes out of a pool."""

    def work(self):
        return "done"


class Pool:
    """Lends the one connection that it has."""

    def __init__(self):
        self.idle = [Connection()]
        self.out = None

    def take(self, error=IndexError):
        """Return a connection."""
        if not self.idle:
            raise error("none left")
        self.out = self.idle.pop()
        return self.out

    def give_back(self, connection):
        self.idle.append(connection)
        return "given back"

    def put_back(self):
        return self.give_back(self.out)


class Parts(SimpleNamespace):
    """A record, and the methods that are noted in it."""

    def stand(self, monkeypatch, kind, name, way):
        monkeypatch.setattr(kind, name, way(vars(kind)[name], self.live))

    def held(self):
        return list(self.tracker.held())


def made(*, in_c):
    tracker = Tracker(Sites())
    assert not in_c or swift.accelerate(tracker)
    watch = Watch(SimpleNamespace(tracker=tracker, settings=Settings(), pools=Pools(tracker.stock), finders=[]))
    watch.quicken("ask", "begin", "got", "gave_back", "note_use", askers={"keeper"})
    return Parts(tracker=tracker, watch=watch, live=[True])
