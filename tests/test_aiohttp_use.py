from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp_steps import LEAK, cancelled, in_a_request, keep, released, slots, tracer, until
from garbage import collect

from crawlo_otel_leaks.settings import DEFAULT_THRESHOLDS, Settings

pytest_plugins = ["local_site"]


class TestSlowAndStuck:
    @pytest.fixture
    def settings(self):
        return Settings(grace=10.0, scan_interval=1.0, thresholds={**DEFAULT_THRESHOLDS, "http.connection": 20.0})

    def test_a_slow_body_that_is_being_read_is_slow_and_no_leak(self, watched, with_session):
        async def read(session, got):
            with tracer.start_as_current_span("request"):
                async with session.get("/dripping") as response:
                    async for byte in response.content.iter_any():
                        got.append(byte)

        async def main(site, session):
            got = []
            reading = asyncio.create_task(read(session, got))
            for number in range(10):
                await until(lambda number=number: len(got) == number)
                await until(lambda: not site.proceed.is_set())
                watched.pass_time(15, steps=15)
                site.proceed.set()
            await reading
            watched.settle()

        with_session(main)
        assert watched.verdicts == [("http.connection", "slow")]
        assert watched.runtime.report().status == "healthy"

    def test_one_that_waits_for_the_next_byte_is_in_use_after_its_span(self, watched, with_session):
        async def main(_site, session):
            kept = []
            await in_a_request(keep(kept, session, "/stalled"))
            reading = asyncio.create_task(kept[0].read())
            await asyncio.sleep(0.01)
            watched.settle()
            assert {reason for _, reason in watched.verdicts} <= {"slow"}
            await cancelled(reading)
            kept[0].close()

        with_session(main)

    def test_one_that_is_read_from_its_buffer_now_and_then_is_in_use_after_its_span(self, watched, with_session):
        async def main(_site, session):
            kept = []
            await in_a_request(keep(kept, session, "/large"))
            for _ in range(10):
                await kept[0].content.readexactly(1000)
                watched.pass_time(5)
            kept[0].close()

        with_session(main)
        assert [reason for _, reason in watched.verdicts if reason != "slow"] == []

    def test_a_silent_websocket_in_an_open_span_is_not_held_too_long(self, watched, with_session):
        async def main(_site, session):
            kept = []
            with tracer.start_as_current_span("request"):
                await asyncio.create_task(keep_websocket(kept, session))
                watched.pass_time(300, steps=30)
                await kept[0].close()

        with_session(main)
        assert watched.verdicts == []

    def test_a_body_that_nobody_reads_is_held_too_long_though_its_span_is_open(self, watched, with_session):
        async def main(_site, session):
            kept = []
            with tracer.start_as_current_span("request"):
                await asyncio.create_task(keep(kept, session, "/large"))
                watched.settle()
            kept[0].close()

        with_session(main)
        assert watched.verdicts == [("http.connection", "held_too_long")]


async def talk(session):
    async with session.ws_connect("/echo") as websocket:
        await websocket.send_str("hello")
        assert (await websocket.receive_str()) == "hello"


async def keep_websocket(kept, session):
    kept.append(await session.ws_connect("/echo"))


def test_a_websocket_that_is_closed_gives_its_slot_back(watched, with_session):
    async def main(_site, session):
        await in_a_request(talk(session))
        watched.settle()
        assert slots(watched) == []

    with_session(main)
    assert watched.verdicts == []
    assert len(released(watched)) == 1


def test_a_websocket_that_is_kept_open_and_idle_is_told_at_the_line_that_connected(watched, with_session):
    async def main(_site, session):
        kept = []
        await in_a_request(keep_websocket(kept, session))
        watched.settle()
        await kept[0].close()
        watched.pass_time(1)

    with_session(main)
    assert watched.verdicts == [LEAK]
    assert watched.recorder.opened_leaks[0].where.function.endswith("keep_websocket")
    assert len(watched.recorder.resolved_leaks) == 1


def test_a_websocket_that_is_dropped_is_abandoned(watched, with_session):
    async def main(_site, session):
        kept = []
        await in_a_request(keep_websocket(kept, session))
        kept.clear()
        collect()
        watched.pass_time(1)

    with_session(main)
    assert watched.verdicts == [("http.connection", "abandoned")]


def test_the_site_of_a_websocket_is_the_callers_also_as_a_task(watched, with_session):
    async def connect(session):
        return await asyncio.create_task(session.ws_connect("/echo"))

    async def main(_site, session):
        websocket = await connect(session)
        assert slots(watched)[0].site.frames[0][0] is connect.__code__
        await websocket.close()

    with_session(main)


def test_an_idle_websocket_whose_message_is_awaited_is_in_use(watched, with_session):
    async def main(_site, session):
        kept = []
        await in_a_request(keep_websocket(kept, session))
        receiving = asyncio.create_task(kept[0].receive())
        await asyncio.sleep(0.01)
        watched.settle()
        watched.settle()
        assert [reason for _, reason in watched.verdicts if reason != "slow"] == []
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        watched.settle()
        assert watched.verdicts[-1] == LEAK

    with_session(main)


def test_a_websocket_that_only_sends_is_in_use(watched, with_session):
    async def main(_site, session):
        kept = []
        await in_a_request(keep_websocket(kept, session))
        for _ in range(10):
            await kept[0].send_str("hello")
            watched.pass_time(5)
        await kept[0].close()

    with_session(main)
    assert [reason for _, reason in watched.verdicts if reason != "slow"] == []
