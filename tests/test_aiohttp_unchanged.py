"""Each program runs once without and once with aiohttp watched, and has to see the same."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref

import aiohttp
import pytest
from aiohttp_steps import until
from garbage import collect, hearing

pytest_plugins = ["local_site"]


def outcome_of(call):
    """What a call gives, when it is made."""
    try:
        return type(call()).__name__
    except Exception as error:  # noqa: BLE001  (whatever it is, it has to be the same)
        return repr(error)


async def outcome(awaitable):
    """What an awaitable gives, when it is awaited."""
    try:
        return type(await awaitable).__name__
    except BaseException as error:  # noqa: BLE001  (the same)
        return type(error).__mro__, str(error).partition(", url=")[0]


async def refuse_bad_keywords_when_called(_site, session):
    calls = (
        lambda: session.get("/small", no_such=1),
        session.get,
        lambda: session.ws_connect("/echo", no_such=1),
        lambda: session._request("GET"),
        lambda: session.close(1),
        lambda: aiohttp.ClientSession(no_such=1),
    )
    return [outcome_of(call) for call in calls]


async def warn_of_what_is_never_awaited(_site, session):
    with hearing() as caught:
        session.get("/small")
        session._request("GET", "/small")
        session.ws_connect("/echo")
        session.close()
        collect()
    return [(warning.category, str(warning.message)) for warning in caught]


async def await_in_every_way(_site, session):
    async def get():
        return await session.get("/small")

    async with session.get("/small") as response:
        text = await response.text()
    ways = (
        session.get("/small"),
        session._request("GET", "/small"),
        asyncio.create_task(get()),
        asyncio.ensure_future(session.get("/small")),
        asyncio.create_task(session.get("/small")),
        asyncio.create_task(session._request("GET", "/small")),
        asyncio.wait_for(session.get("/small"), 10),
        asyncio.shield(session.get("/small")),
        asyncio.gather(session.get("/small"), session.get("/small")),
        session.get("/redirect"),
    )
    return text, [await outcome(way) for way in ways]


async def await_twice(_site, session):
    asked = session.get("/small")
    closing = session.close()
    return [await outcome(each) for each in (asked, asked, closing, closing)]


async def drive_by_hand(_site, session):
    thrown, closed = session.get("/small"), session.get("/small")
    closed.close()
    told = outcome_of(lambda: thrown.throw(ValueError("thrown")))
    return told, await outcome(closed), await outcome(thrown)


async def raise_what_goes_wrong(_site, session):
    timeout = aiohttp.ClientTimeout(total=0.05)
    return [
        await outcome(session.get("/silent", timeout=timeout)),
        await outcome(session.get("/broken", raise_for_status=True)),
        (await outcome(session.get("no scheme://")))[0],
        (await outcome(session.ws_connect("/small")))[0][0],
    ]


async def be_cancelled(_site, session):
    task = asyncio.create_task(session.get("/silent"))
    await until(lambda: session.connector._acquired)
    task.cancel()
    return await outcome(task), task.cancelled()


async def use_a_closed_session(_site, session):
    await session.close()
    return await outcome(session.get("/small")), await outcome(session.close())


async def die_by_reference_count(_site, session):
    collect()
    gc.disable()
    try:
        dropped = weakref.ref(aiohttp.ClientSession())
        async with session.get("/small") as response:
            await response.read()
        answer = weakref.ref(response)
        del response
        return dropped(), answer() is None
    finally:
        gc.enable()


async def look_at_what_is_public(_site, session):
    closing, asked = session.close(), session._request("GET", "/small")
    public = [
        str(inspect.signature(aiohttp.ClientSession)),
        str(inspect.signature(aiohttp.ClientSession.close)),
        aiohttp.ClientSession.close.__doc__,
        aiohttp.ClientSession.close.__qualname__,
        inspect.iscoroutinefunction(session.close),
        inspect.iscoroutinefunction(session._request),
        inspect.iscoroutinefunction(session.connector.connect),
        asyncio.iscoroutinefunction(session.close),
        inspect.iscoroutine(closing),
        inspect.iscoroutine(asked),
        asyncio.iscoroutine(closing),
        closing.__qualname__,
        closing.__name__,
        asked.__qualname__,
        repr(aiohttp.ClientSession),
    ]
    await closing
    asked.close()
    return public


async def talk(_site, session):
    async with session.ws_connect("/echo") as websocket:
        await websocket.send_str("hello")
        told = await websocket.receive_str()
    return told, websocket.close_code, type(websocket).__name__


@pytest.mark.filterwarnings("ignore:.*iscoroutinefunction:DeprecationWarning")
@pytest.mark.parametrize(
    "program",
    [
        refuse_bad_keywords_when_called,
        warn_of_what_is_never_awaited,
        await_in_every_way,
        await_twice,
        drive_by_hand,
        raise_what_goes_wrong,
        be_cancelled,
        use_a_closed_session,
        die_by_reference_count,
        look_at_what_is_public,
        talk,
    ],
)
def test_the_program_sees_no_difference(watching, with_session, program):
    plain = with_session(program)
    assert plain
    with watching:
        assert with_session(program) == plain


def test_warnings_of_a_request_name_the_line_they_would_without_us(watching, with_session):
    async def warned(_site, session):
        with hearing() as caught:
            async with session.get("/small", auth=aiohttp.BasicAuth("user", "password")):
                pass
            async with session.ws_connect("/echo", receive_timeout=1):
                pass
        return [(warning.category, warning.filename, warning.lineno) for warning in caught]

    plain = with_session(warned)
    if not plain:
        pytest.skip("this aiohttp deprecates none of it")
    with watching:
        assert with_session(warned) == plain
