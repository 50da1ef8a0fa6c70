"""redis-py and valkey-py against a real cluster and a real sentinel."""

from __future__ import annotations

import asyncio
import inspect

import pytest
import servers
from redis_clients import LEAKED

pytest_plugins = ["redis_clients"]


@pytest.fixture(scope="module")
def nodes():
    return servers.valkey_cluster().nodes


@pytest.fixture(scope="module")
def half_dead():
    """A cluster one of whose nodes has died."""
    cluster = servers.start_cluster()
    cluster.servers[2].kill()
    return cluster.nodes


@pytest.fixture
def cluster(package, nodes):
    made = package.cluster(nodes[0])
    yield made
    made.close()


def names(rig):
    return {one.name for one in rig.runtime.pools}


def of_nodes(nodes):
    return {f"{host}:{port}/0" for host, port in nodes}


def test_commands_take_and_give_back_under_the_names_of_the_nodes(rig, cluster, nodes):
    for number in range(50):
        cluster.set(f"key{number}", number)
        assert cluster.get(f"key{number}") == str(number).encode()
    rig.settle()
    assert rig.verdicts == []
    assert rig.held == []
    assert names(rig) == of_nodes(nodes)
    assert len(rig.recorder.released_handles) >= 100


def test_a_pipeline_over_all_nodes_gives_back(rig, cluster, tracer):
    with tracer.start_as_current_span("job"):
        pipe = cluster.pipeline()
        for number in range(20):
            pipe.set(f"key{number}", number)
        assert pipe.execute() == [True] * 20
    rig.settle()
    assert (rig.verdicts, rig.held) == ([], [])


def test_a_transaction_that_watches_and_is_never_reset_is_a_leak(rig, package, cluster, tracer):
    def work(pipe):
        pipe.watch("key")
        return pipe

    if package.name == "valkey":
        pytest.skip("valkey-py has no transactions in a cluster")
    try:
        pipe = cluster.pipeline(transaction=True)
    except package.errors.RedisClusterException:
        pytest.skip("this release has no transactions in a cluster")
    with tracer.start_as_current_span("job"):
        kept = work(pipe)
    rig.settle()
    assert rig.verdicts == [LEAKED]
    assert rig.recorder.opened_leaks[0].where.text == 'pipe.watch("key")'
    kept.reset()
    rig.pass_time(1)
    assert (len(rig.recorder.resolved_leaks), rig.held) == (1, [])


def subscribe(client):
    pubsub = client.pubsub()
    pubsub.subscribe("news")
    return pubsub


def test_a_pubsub_that_is_never_closed_is_a_leak(rig, cluster, nodes, tracer):
    with tracer.start_as_current_span("job"):
        kept = subscribe(cluster)
    rig.settle()
    assert rig.verdicts == [LEAKED]
    assert rig.recorder.opened_leaks[0].name in of_nodes(nodes)
    kept.close()
    rig.pass_time(1)
    assert rig.held == []


def take(pool):
    return pool.get_connection("_")


def test_a_nodes_connection_that_is_never_released_is_a_leak(rig, package, cluster, nodes, tracer):
    client = getattr(cluster, f"get_{package.name}_connection")(cluster.get_node(*nodes[1]))
    pool = client.connection_pool
    with tracer.start_as_current_span("job"):
        kept = take(pool)
    rig.settle()
    assert rig.verdicts == [LEAKED]
    assert rig.recorder.opened_leaks[0].name == "{}:{}/0".format(*nodes[1])
    pool.release(kept)
    rig.pass_time(1)
    assert rig.held == []


def test_a_node_that_failed_leaves_nothing_held_and_gets_no_note(rig, package, half_dead):
    cluster = package.cluster(half_dead[0])
    with pytest.raises(package.errors.ConnectionError) as caught:
        cluster.ping(target_nodes=cluster.get_node(*half_dead[2]))
    assert getattr(caught.value, "__notes__", []) == []
    rig.runtime.tick()
    assert (rig.held, [one.timeouts for one in rig.runtime.pools if one.timeouts]) == ([], [])
    cluster.close()


class TestAsync:
    @pytest.fixture
    def visit(self, package, nodes):
        """Run a coroutine function with a client of the cluster."""

        def run(work, where=nodes[0], **options):
            async def main():
                cluster = await package.async_cluster(where, **options).initialize()
                try:
                    return await work(cluster)
                finally:
                    await cluster.aclose()

            return asyncio.run(main())

        return run

    @pytest.fixture
    def releases(self, package):
        """Skip where a node's connection is out only within one call of the library."""
        if not hasattr(package.asyn.cluster.ClusterNode, "release"):
            pytest.skip("the nodes of this release have no release of their own")

    def test_commands_and_pipelines_give_back_under_the_names_of_the_nodes(self, rig, visit, nodes, package):
        async def work(cluster):
            await asyncio.gather(*(cluster.set(f"key{number}", number) for number in range(50)))
            pipe = cluster.pipeline()
            for number in range(20):
                pipe.get(f"key{number}")
            assert await pipe.execute() == [str(number).encode() for number in range(20)]
            assert rig.held == []

        visit(work)
        rig.settle()
        assert (rig.verdicts, rig.held) == ([], [])
        if "release" in package.asyn.cluster.ClusterNode.execute_command.__code__.co_names:
            assert names(rig) == of_nodes(nodes)

    @pytest.mark.usefixtures("releases")
    def test_a_nodes_connection_that_is_never_released_is_a_leak(self, rig, visit, nodes, tracer):
        async def take(node):
            with tracer.start_as_current_span("job"):
                return node.acquire_connection()

        async def work(cluster):
            node = cluster.get_node(*nodes[1])
            connection = await asyncio.create_task(take(node))
            rig.settle()
            assert rig.verdicts == [LEAKED]
            node.release(connection)

        visit(work)
        (leak,) = rig.recorder.opened_leaks
        assert (leak.name, leak.where.text) == ("{}:{}/0".format(*nodes[1]), "return node.acquire_connection()")
        rig.pass_time(1)
        assert (len(rig.recorder.resolved_leaks), rig.held) == (1, [])

    @pytest.mark.usefixtures("releases")
    def test_a_transaction_that_watches_and_is_never_reset_is_a_leak(self, rig, visit, tracer, package):
        async def watch(pipe):
            with tracer.start_as_current_span("job"):
                await pipe.watch("key")

        async def work(cluster):
            pipe = cluster.pipeline(transaction=True)
            await asyncio.create_task(watch(pipe))
            rig.settle()
            assert rig.verdicts == [LEAKED]
            await pipe.reset()

        if "transaction" not in inspect.signature(package.asyn.cluster.ClusterPipeline).parameters:
            pytest.skip("this release has no transactions in a cluster")
        visit(work)
        assert rig.recorder.opened_leaks[0].where.text == 'await pipe.watch("key")'
        rig.pass_time(1)
        assert rig.held == []

    @pytest.mark.usefixtures("releases")
    def test_a_node_without_a_connection_left_says_who_holds_them(self, rig, visit, nodes, package):
        async def work(cluster):
            node = cluster.get_node(*nodes[0])
            kept = node.acquire_connection()
            with pytest.raises(package.errors.MaxConnectionsError) as caught:
                node.acquire_connection()
            node.release(kept)
            return caught.value.__notes__

        (note,) = visit(work, max_connections=1)
        assert note.startswith("1 of 1 connections of pool {}:{}/0 held: 1 since ".format(*nodes[0]))

    @pytest.mark.usefixtures("releases")
    def test_a_closed_cluster_holds_nothing(self, rig, visit, nodes):
        async def work(cluster):
            return cluster.get_node(*nodes[0]).acquire_connection()

        kept = visit(work)
        rig.settle()
        assert (rig.verdicts, rig.held) == ([], [])
        del kept

    def test_a_node_that_failed_leaves_nothing_held_and_gets_no_note(self, rig, visit, package, half_dead):
        async def work(cluster):
            with pytest.raises(package.errors.ConnectionError) as caught:
                await cluster.ping(target_nodes=cluster.get_node(*half_dead[2]))
            return getattr(caught.value, "__notes__", [])

        assert visit(work, half_dead[0]) == []
        rig.runtime.tick()
        assert (rig.held, [one.timeouts for one in rig.runtime.pools if one.timeouts]) == ([], [])


class TestSentinel:
    def test_connections_belong_to_the_service(self, rig, package, tracer):
        where, service = servers.valkey_sentinel()
        client = package.sentinel.Sentinel([where]).master_for(service)
        for number in range(20):
            client.set("key", number)
        assert rig.held == []
        with tracer.start_as_current_span("job"):
            kept = subscribe(client)
        rig.settle()
        assert rig.verdicts == [LEAKED]
        assert rig.recorder.opened_leaks[0].name == f"{service}/0"
        kept.close()
        client.close()
        rig.pass_time(1)
        assert (len(rig.recorder.resolved_leaks), rig.held) == (1, [])

    def test_async_connections_belong_to_the_service(self, rig, package, tracer):
        where, service = servers.valkey_sentinel()

        async def listen(client):
            with tracer.start_as_current_span("job"):
                pubsub = client.pubsub()
                await pubsub.subscribe("news")
                return pubsub

        async def main():
            client = package.asyn.Sentinel([where]).master_for(service)
            await asyncio.gather(*(client.set("key", number) for number in range(20)))
            assert rig.held == []
            pubsub = await asyncio.create_task(listen(client))
            rig.settle()
            assert rig.verdicts == [LEAKED]
            await pubsub.aclose()
            await client.aclose()

        asyncio.run(main())
        assert rig.recorder.opened_leaks[0].name == f"{service}/0"
        rig.pass_time(1)
        assert (len(rig.recorder.resolved_leaks), rig.held) == (1, [])

    def test_a_service_that_nobody_knows_gets_no_note(self, package):
        where, _ = servers.valkey_sentinel()
        client = package.sentinel.Sentinel([where]).master_for("another")
        with pytest.raises(package.sentinel.MasterNotFoundError) as caught:
            client.get("key")
        assert getattr(caught.value, "__notes__", []) == []
