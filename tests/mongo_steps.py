"""What the tests of PyMongo share: a server, a collection of a thousand, and cursors that keep a connection."""

from __future__ import annotations

import time

import servers
from pymongo import CursorType, MongoClient
from pymongo.errors import CollectionInvalid

LEAKED = ("db.connection", "owner_finished")
EXHAUST = {"cursor_type": CursorType.EXHAUST, "batch_size": 10}
"""A cursor with these options keeps its connection until it has been read to its end, or closed."""


def url():
    return servers.mongo()


def server():
    address = servers.Address.of(url())
    return f"{address.host}:{address.port}"


def fill():
    """Make a collection of a thousand, and a capped one; before anything is watched."""
    with MongoClient(url()) as client:
        if client.tests.numbers.count_documents({}) != 1000:
            client.tests.numbers.drop()
            client.tests.numbers.insert_many([{"number": number} for number in range(1000)])
        try:
            client.tests.create_collection("capped", capped=True, size=100_000)
        except CollectionInvalid:
            return
        client.tests.capped.insert_many([{"number": number} for number in range(2)])


TAIL = {"find": "capped", "tailable": True, "awaitData": True, "batchSize": 1}


def more(first):
    """Return the command that reads on; at the end of a tailable cursor it waits, and gets nothing."""
    return {"getMore": first["cursor"]["id"], "collection": "capped", "maxTimeMS": 600}


def until(condition, seconds=10.0):
    """Let other threads go on until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what a test waits for never came"
        time.sleep(0.001)
