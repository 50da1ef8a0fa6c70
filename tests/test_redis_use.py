"""redis-py and valkey-py: what is in use, however long it takes, and what is kept by design."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import servers
from redis_clients import LEAKED

from crawlo_otel_leaks import adopt

pytest_plugins = ["redis_clients"]

SLOW = [("redis.connection", "slow")]
HELD_TOO_LONG = ("redis.connection", "held_too_long")
FOREVER = "while true do end"
# A command that the server does not answer before the test asks it to, and how it does.
COMMANDS = {
    "blocking": (lambda client: client.blpop(["awaited"]), "RPUSH awaited x", ":1"),
    "script": (lambda client: client.eval(FOREVER, 0), "SCRIPT KILL", "OK"),
}


def subscribe(client):
    pubsub = client.pubsub()
    pubsub.subscribe("news")
    return pubsub


def in_thread(rig, work):
    """Run work in a thread; return it once it holds something."""
    thread = threading.Thread(target=work)
    thread.start()
    while not rig.held:
        pass
    return thread


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_takes_long_is_slow_and_no_leak(rig, package, client, where, command):
    begin, *end = COMMANDS[command]

    def work():
        with contextlib.suppress(package.errors.ResponseError):  # the script was killed
            begin(client)

    servers.ask(where["port"], "CONFIG SET busy-reply-threshold 1")  # a script can be killed after as many ms
    thread = in_thread(rig, work)
    rig.pass_time(100, steps=50)
    servers.until(where["port"], *end)
    thread.join()
    assert rig.verdicts == SLOW
    rig.pass_time(1)
    assert rig.held == []


def test_an_async_command_that_takes_long_is_slow_and_no_leak(rig, package, where):
    async def main():
        client = package.async_client(where)
        begin, *end = COMMANDS["blocking"]
        task = asyncio.create_task(begin(client))
        while not rig.held:  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        rig.pass_time(100, steps=50)
        servers.until(where["port"], *end)
        await task
        await client.aclose()

    asyncio.run(main())
    assert rig.verdicts == SLOW
    rig.pass_time(1)
    assert rig.held == []


def test_an_async_connection_that_somebody_else_awaits_is_in_use(rig, package, where, tracer):
    async def take_one(pool):
        with tracer.start_as_current_span("job"):
            return await pool.get_connection("_")

    async def main():
        pool = package.asyn.ConnectionPool(**where)
        connection = await asyncio.create_task(take_one(pool))
        await connection.send_command("BLPOP", "awaited", 0)
        reading = asyncio.create_task(connection.read_response())
        await asyncio.sleep(0.05)
        rig.pass_time(100, steps=50)
        servers.ask(where["port"], "RPUSH awaited x")
        await reading
        await pool.release(connection)
        await pool.aclose()

    asyncio.run(main())
    assert rig.verdicts == SLOW
    rig.pass_time(1)
    assert rig.held == []


def test_a_listener_that_waits_elsewhere_than_it_subscribed_is_in_use(rig, client, tracer):
    with tracer.start_as_current_span("job"):
        pubsub = subscribe(client)
    got = []
    thread = threading.Thread(target=lambda: got.extend(next(pubsub.listen()) for _ in range(2)))
    thread.start()
    while not got:
        pass  # the subscription's own message has come, and it waits for the next
    rig.pass_time(100, steps=50)
    assert rig.verdicts == SLOW
    client.publish("news", "x")
    thread.join()
    assert got[1]["data"] == b"x"
    pubsub.close()
    rig.pass_time(1)
    assert rig.held == []


def test_a_subscription_that_another_polls_is_shared(rig, client, tracer):
    with tracer.start_as_current_span("startup"):
        pubsub = subscribe(client)
    for _ in range(20):
        pubsub.get_message()
        rig.pass_time(20)
    assert rig.verdicts in ([], SLOW)
    rig.pass_time(100, steps=50)
    assert rig.verdicts[-1] == HELD_TOO_LONG, "nobody polls it any more"
    pubsub.close()


def test_a_listening_thread_is_in_use_until_it_is_stopped(rig, client, tracer):
    def handle(message):
        pass

    def listen():
        pubsub = client.pubsub()
        pubsub.subscribe(news=handle)
        return pubsub, pubsub.run_in_thread(sleep_time=0.01)

    with tracer.start_as_current_span("startup"):
        pubsub, thread = listen()
    while not rig.held[0].uses:
        pass
    for _ in range(10):
        uses = rig.held[0].uses
        while rig.held[0].uses == uses:
            pass
        rig.pass_time(10)
    assert rig.verdicts in ([], SLOW)
    thread.stop()
    thread.join()
    rig.pass_time(1)
    assert rig.held == []
    assert pubsub.connection is None


def test_a_monitor_is_in_use_while_it_waits_and_gives_back(rig, package, where, tracer):
    client, got = package.client(where), []

    def follow(monitor):
        while not got or got[-1]["command"] != "ECHO stop":
            got.append(monitor.next_command())

    def start():
        return client.monitor().__enter__()

    with tracer.start_as_current_span("job"):
        monitor = start()
    thread = threading.Thread(target=follow, args=(monitor,))
    thread.start()
    while not rig.held[0].inside:
        pass
    rig.pass_time(100, steps=50)
    assert rig.verdicts == SLOW
    client.echo("stop")
    thread.join()
    monitor.__exit__(None, None, None)
    rig.pass_time(1)
    assert rig.held == []
    client.close()


def test_a_connection_taken_by_hand_is_in_use_while_it_is_sent_on(rig, client, tracer):
    def take():
        return client.connection_pool.get_connection("_")

    with tracer.start_as_current_span("job"):
        connection = take()
    for _ in range(3):
        connection.send_command("PING")
        connection.read_response()
        rig.pass_time(8)
    assert rig.verdicts == []
    rig.pass_time(100, steps=50)
    assert rig.verdicts == [HELD_TOO_LONG], "used after the job, then by nobody"
    client.connection_pool.release(connection)


@pytest.mark.parametrize("what", ["pubsub", "pipeline", "client"])
def test_what_the_user_has_in_hand_can_be_adopted(rig, package, where, tracer, what):
    client = package.client(where)

    def take():
        if what == "pubsub":
            return subscribe(client)
        if what == "pipeline":
            pipe = client.pipeline()
            pipe.watch("key")
            return pipe
        return client.client()

    with tracer.start_as_current_span("job"):
        kept = [adopt(take()) for _ in range(2)]
    rig.settle()
    assert rig.verdicts == []
    assert len(rig.held) == 2
    for one in kept:
        one.close()
    client.close()
    rig.pass_time(1)
    assert rig.held == []


@pytest.mark.parametrize("in_hand", [lambda pubsub: pubsub, lambda pubsub: pubsub.connection])
def test_an_async_subscription_can_be_adopted(rig, package, where, tracer, in_hand):
    async def listen(client):
        with tracer.start_as_current_span("job"):
            pubsub = client.pubsub()
            await pubsub.subscribe("news")
            adopt(in_hand(pubsub))
            return pubsub

    async def main():
        client = package.async_client(where)
        pubsub = await asyncio.create_task(listen(client))
        rig.settle()
        assert (rig.verdicts, len(rig.held)) == ([], 1)
        await pubsub.aclose()
        await client.aclose()

    asyncio.run(main())
    rig.pass_time(1)
    assert rig.held == []


def test_a_lock_holds_no_connection(rig, client):
    with client.lock("lock", timeout=10):
        rig.pass_time(1)
        assert rig.held == []
    rig.settle()
    assert rig.verdicts == []


def test_health_checks_take_nothing_for_themselves(rig, package, where):
    client = package.client(where, health_check_interval=1)
    for _ in range(5):
        client.connection_pool._available_connections and setattr(
            client.connection_pool._available_connections[0], "next_health_check", -1
        )
        client.get("key")
    client.close()
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_clients_cache_changes_nothing(rig, package, where, tracer, monkeypatch):
    cache = pytest.importorskip(f"{package.name}.cache", reason="this release caches nothing")
    proxy = package.module.connection.CacheProxyConnection
    monkeypatch.setattr(proxy, "DEFAULT_SERVER_NAME", "valkey", raising=False)  # it asks for a Redis
    client = package.client(where, protocol=3, cache_config=cache.CacheConfig())
    client.set("key", 1)
    assert [client.get("key") for _ in range(3)] == [b"1"] * 3
    assert rig.held == []
    with tracer.start_as_current_span("job"):
        kept = subscribe(client)
    rig.settle()
    assert rig.verdicts == [LEAKED]
    kept.close()
    client.close()
    rig.pass_time(1)
    assert rig.held == []
