from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp_steps import LEAK, cancelled, drop, in_a_request, keep, released, slots, tracer, until
from garbage import collect

pytest_plugins = ["local_site"]


# What gives the slot back, each in a way of its own.


async def read_all(session):
    assert await (await session.get("/small")).text() == "small"


async def read_large(session):
    async with session.get("/large") as response:
        assert len(await response.read()) == int(response.headers["Content-Length"])


async def leave_block_unread(session):
    async with session.get("/large"):
        pass


async def release_unread(session):
    (await session.get("/large")).release()


async def close_unread(session):
    (await session.get("/large")).close()


async def follow_redirect(session):
    async with session.get("/redirect") as response:
        assert response.history[0].status == 302


async def raise_by_session(session):
    with pytest.raises(aiohttp.ClientResponseError):
        await session.get("/broken", raise_for_status=True)


async def raise_by_response(session):
    with pytest.raises(aiohttp.ClientResponseError):
        async with session.get("/broken") as response:
            response.raise_for_status()


async def time_out_waiting(session):
    with pytest.raises(asyncio.TimeoutError):
        await session.get("/silent", timeout=aiohttp.ClientTimeout(total=0.05))


async def time_out_reading(session):
    async with session.get("/stalled", timeout=aiohttp.ClientTimeout(sock_read=0.05)) as response:
        with pytest.raises(asyncio.TimeoutError):
            await response.read()


async def time_out_in_total(session):
    async with session.get("/stalled", timeout=aiohttp.ClientTimeout(total=0.05)) as response:
        with pytest.raises(asyncio.TimeoutError):
            await response.read()


async def never_start(session):
    await cancelled(asyncio.ensure_future(session.get("/small")))


async def cancel_waiting(session):
    task = asyncio.ensure_future(session.get("/silent"))
    await until(lambda: session.connector._acquired)
    await asyncio.sleep(0.02)
    await cancelled(task)


async def cancel_reading(session):
    async def read():
        async with session.get("/stalled") as response:
            await response.content.readexactly(4)
            reading.set()
            await response.content.readexactly(4)

    reading = asyncio.Event()
    task = asyncio.ensure_future(read())
    await reading.wait()
    await cancelled(task)


async def refuse(_session):
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("http://127.0.0.1:1/")


WAYS = [
    read_all,
    read_large,
    leave_block_unread,
    release_unread,
    close_unread,
    follow_redirect,
    raise_by_session,
    raise_by_response,
    time_out_waiting,
    time_out_reading,
    time_out_in_total,
    never_start,
    cancel_waiting,
    cancel_reading,
    refuse,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_of_a_request_gives_the_slot_back(watched, with_session, way):
    async def main(_site, session):
        for _ in range(2):
            await in_a_request(way(session))
        assert slots(watched) == []
        assert not session.connector._acquired
        watched.settle()

    with_session(main)
    assert watched.verdicts == []
    assert bool(released(watched)) is (way not in (never_start, refuse))


def test_a_small_body_frees_its_slot_though_nobody_reads_it(watched, with_session):
    async def main(_site, session):
        kept = []
        await in_a_request(keep(kept, session, "/small"))
        await until(lambda: not slots(watched))
        watched.settle()

    with_session(main)
    assert watched.verdicts == []
    assert len(released(watched)) == 1


def test_a_large_body_left_unread_is_told_in_the_span_and_at_the_line_of_who_asked(watched, with_session, telemetry):
    async def main(_site, session):
        kept = []
        span = await in_a_request(keep(kept, session, "/large"))
        watched.settle()
        kept[0].close()
        watched.pass_time(1)
        return span

    span = with_session(main)
    assert watched.verdicts == [LEAK]
    leak = watched.recorder.opened_leaks[0]
    assert leak.where.function.endswith("keep")
    assert leak.where.text == "kept.append(await session.get(path))"
    assert leak.name.startswith("http://127.0.0.1:")
    assert telemetry.spans("leak http.connection")[0].parent.span_id == span.get_span_context().span_id
    assert len(watched.recorder.resolved_leaks) == 1


def test_a_dropped_response_with_a_large_body_is_told(watched, with_session):
    async def main(_site, session):
        await in_a_request(drop(session, "/large"))
        collect()
        watched.settle()

    with_session(main)
    assert watched.verdicts == [LEAK]


def test_a_dropped_response_of_a_stalled_server_is_told(watched, with_session):
    async def main(_site, session):
        await in_a_request(drop(session, "/stalled"))
        collect()
        watched.settle()
        assert watched.verdicts == [LEAK]

    with_session(main)


def test_a_dropped_response_with_a_small_body_is_no_leak(watched, with_session):
    async def main(_site, session):
        await in_a_request(drop(session, "/small"))
        await until(lambda: not slots(watched))
        watched.settle()

    with_session(main)
    assert watched.verdicts == []


def test_a_raised_for_status_that_keeps_the_response_is_told(watched, with_session):
    """An exception that is kept keeps nothing, but a body that nobody reads keeps its slot."""

    async def careless(session, kept):
        response = await session.get("/broken")
        kept.append(response)

    async def main(_site, session):
        kept = []
        await in_a_request(careless(session, kept))
        watched.settle()

    with_session(main)
    assert watched.verdicts == [LEAK]


def test_many_gathered_in_one_open_span_and_read_later_are_no_leak(watched, with_session):
    async def fetch(session):
        return await session.get("/large")

    async def main(_site, session):
        with tracer.start_as_current_span("crawl"):
            responses = await asyncio.gather(*(fetch(session) for _ in range(10)))
            watched.settle()
            assert len(slots(watched)) == 10
            for response in responses:
                await response.read()
        watched.settle()
        assert slots(watched) == []

    with_session(main)
    assert watched.verdicts == []


def test_closing_the_pool_gives_back_what_is_out(watched, visit):
    async def main(site):
        session = aiohttp.ClientSession(site.url)
        kept = []
        for _ in range(3):
            await in_a_request(keep(kept, session, "/large"))
        assert len(slots(watched)) == 3
        await session.close()
        assert watched.held == []
        watched.settle()

    visit(main)
    assert watched.verdicts == []
    assert len(released(watched)) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_response_kept_beyond_its_loop_is_told(watched, visit):
    kept = []

    async def main(site):
        session = aiohttp.ClientSession(site.url)
        kept.extend((session, await session.get("/large")))

    visit(main)
    watched.settle()
    assert sorted(watched.verdicts) == [LEAK, ("http.session", "loop_closed")]
    kept.clear()
    collect()  # aiohttp's finalizer stumbles over the closed loop here rather than in another test


def test_a_thousand_clean_requests_report_nothing(watched, with_session):
    async def fetch(session, number):
        with tracer.start_as_current_span("request"):
            async with session.get("/small" if number % 10 else "/redirect") as response:
                return await response.text()

    async def main(_site, session):
        for batch in range(20):
            texts = await asyncio.gather(*(fetch(session, number) for number in range(50)))
            assert set(texts) == {"small"}
            watched.pass_time(1 + batch)
        assert slots(watched) == []
        watched.settle()

    with_session(main)
    collect()
    watched.settle()
    assert watched.verdicts == []
    assert watched.held == []
    assert len(released(watched)) >= 1_000
