"""Which handles a leak detector suspects, and which it does not."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

import aiohttp
import pytest
from garbage import collect
from leak_steps import cancelled, pending, types

from crawlo_otel_leaks import LeakDetector, scope, semconv
from crawlo_otel_leaks.model import NamedHandle

pytest_plugins = ["leaky_work"]


@pytest.fixture
def detector():
    return LeakDetector("tests")


def analyzed(detector):
    detector.snapshot()
    return detector.analyze()


def test_nine_unclosed_sessions_are_a_leak_with_their_line(all_watched, detector, sessions):
    async def main():
        detector.set_baseline()
        await sessions.take(9)
        leaking = analyzed(detector)
        await sessions.give_back()
        return leaking, analyzed(detector)

    leaking, clean = asyncio.run(main())
    assert leaking["status"] == "leak_detected"
    (leak,) = leaking["potential_leaks"]
    assert (leak["type"], leak["severity"], leak["growth"]) == ("http_sessions", "high", 9)
    (site,) = leak["sites"]
    assert site["count"] == 9
    assert site["file"].endswith("leaky_work.py")
    assert "take" in site["function"]
    assert clean["status"] == "healthy"


def test_one_unclosed_session_is_a_leak_too(all_watched, detector, sessions):
    async def main():
        detector.set_baseline()
        await sessions.take(1)
        leaking = analyzed(detector)
        await sessions.give_back()
        return leaking

    told = asyncio.run(main())
    assert types(told) == {"http_sessions": 1}
    assert told["potential_leaks"][0]["severity"] == "medium"


def test_sixty_pending_tasks_are_a_leak_until_they_end(all_watched, detector):
    async def main():
        detector.set_baseline()
        tasks = await pending(60)
        leaking = analyzed(detector)
        await cancelled(tasks)
        return leaking, analyzed(detector)

    leaking, clean = asyncio.run(main())
    assert types(leaking) == {"tasks": 60}
    assert clean["status"] == "healthy"


def test_tasks_that_somebody_waits_for_are_none(all_watched, detector):
    async def main():
        detector.set_baseline()
        tasks = await pending(3)
        waiting = asyncio.ensure_future(asyncio.wait(tasks))
        await asyncio.sleep(0)
        told = analyzed(detector)
        await cancelled(tasks)
        await waiting
        return told

    assert types(asyncio.run(main())).get("tasks", 0) <= 1  # who waits is waited for by nobody


def test_five_threads_and_ten_files_are_each_a_leak(all_watched, detector, idlers, path):
    detector.set_baseline()
    idlers(5)
    files = [path.open() for _ in range(10)]
    leaking = analyzed(detector)
    idlers.end()
    for file in files:
        file.close()
    assert types(leaking) == {"threads": 5, "file_descriptors": 10}
    assert analyzed(detector)["status"] == "healthy"


def test_what_was_held_before_the_baseline_is_nobodys_leak(all_watched, detector, idlers, path):
    with path.open():
        idlers(5)
        detector.set_baseline()
        assert analyzed(detector)["status"] == "healthy"


def test_what_was_dropped_unclosed_is_certain(all_watched, detector, path):
    detector.set_baseline()
    for _ in range(3):
        path.open()
    told = analyzed(detector)  # before the next tick ...
    assert types(told) == {"file_descriptors": 3}
    all_watched.pass_time(1)
    told = analyzed(detector)  # ... and after it
    assert types(told) == {"file_descriptors": 3}
    assert told["potential_leaks"][0]["sites"][0]["reason"] == "abandoned"
    assert told["potential_leaks"][0]["severity"] == "high"


def test_what_a_task_left_that_has_ended_is_a_leak(all_watched, detector, path):
    kept = []

    async def fetch():
        kept.append(path.open())

    async def main():
        await asyncio.gather(*(fetch() for _ in range(3)))

    detector.set_baseline()
    asyncio.run(main())
    told = analyzed(detector)
    for file in kept:
        file.close()
    assert types(told) == {"file_descriptors": 3}
    assert told["potential_leaks"][0]["sites"][0]["reason"] == "owner_finished"


def test_an_open_span_around_it_all_excuses_nobody(all_watched, detector, path, tracer):
    kept = []

    async def fetch():
        kept.append(path.open())

    with tracer.start_as_current_span("request"):
        detector.set_baseline()
        asyncio.run(fetch())
        told = analyzed(detector)
    kept.pop().close()
    assert types(told) == {"file_descriptors": 1}


def test_what_another_task_is_at_work_with_is_none(all_watched, detector, path):
    def take():
        return path.open()

    async def work(go_on):
        with take():
            await go_on.wait()

    async def main():
        go_on = asyncio.Event()
        before = [asyncio.create_task(work(go_on)) for _ in range(3)]
        detector.set_baseline()  # the tasks are from before it, what they take is not
        await asyncio.sleep(0)
        told = analyzed(detector)
        go_on.set()
        await asyncio.gather(*before)
        return told

    assert asyncio.run(main())["status"] == "healthy"


def test_what_a_thread_that_has_ended_left_is_a_leak_and_what_one_works_with_is_none(all_watched, detector, path):
    kept, at_work, let_go = [], threading.Event(), threading.Event()

    def take():
        return path.open()

    def work():
        with take():
            at_work.set()
            let_go.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    at_work.wait(10)
    detector.set_baseline()
    leaving = threading.Thread(target=lambda: kept.append(path.open()))
    leaving.start()
    leaving.join()
    told = analyzed(detector)
    let_go.set()
    worker.join()
    kept.pop().close()
    assert types(told) == {"file_descriptors": 1}


def test_the_task_that_asks_is_not_its_own_leak(all_watched, detector):
    async def ask():
        return analyzed(detector)

    async def main():
        detector.set_baseline()
        return await asyncio.create_task(ask())

    assert asyncio.run(main())["status"] == "healthy"


def test_of_a_crowd_of_tasks_the_one_that_asks_is_not_counted(all_watched, detector):
    told, left = [], []

    async def stay(go_on, *, asks):
        await go_on.wait()
        if asks:
            told.append(analyzed(detector))
        await asyncio.Event().wait()

    async def main():
        go_on = asyncio.Event()

        async def start():
            left.extend([asyncio.create_task(stay(go_on, asks=number == 5)) for number in range(6)])

        detector.set_baseline()
        await asyncio.create_task(start())
        go_on.set()
        while not told:  # noqa: ASYNC110  (who asks is to be waited for by nobody)
            await asyncio.sleep(0)
        await cancelled(left)

    asyncio.run(main())
    assert types(told[0]) == {"tasks": 5}


def test_what_another_handle_answers_for_is_none(all_watched, detector, path):
    class Holder(NamedHandle):
        """A connection, say, above a file."""

        numbers = ()

        def descriptors(self):
            return self.numbers

    detector.set_baseline()
    file = path.open()
    holder = Holder(semconv.DB_CONNECTION, "above")
    holder.numbers = (file.fileno(),)
    all_watched.runtime.tracker.acquire(holder, sys._getframe())
    told = analyzed(detector)
    file.close()
    assert types(told) == {"db_connections": 1}


def test_what_belongs_to_the_process_is_none(all_watched, detector, tmp_path):
    detector.set_baseline()
    handler = logging.FileHandler(tmp_path / "app.log")
    told = analyzed(detector)
    handler.close()
    assert told["status"] == "healthy"
    assert told["changes"]["file_descriptors"] == 1


def test_what_a_session_of_a_closed_loop_holds_is_a_leak(all_watched, detector):
    kept = []

    async def main():
        kept.append(aiohttp.ClientSession())

    detector.set_baseline()
    asyncio.run(main())
    told = analyzed(detector)
    kept.pop()._connector._close()
    collect()
    assert told["potential_leaks"][0]["sites"][0]["reason"] == "loop_closed"


def test_an_inner_scope_that_has_ended_is_asked_for_what_it_took(all_watched, detector, path):
    """By another thread, for which the one that took it might still work with it."""
    told = []
    detector.set_baseline()
    with scope("import"):
        file = path.open()
    asking = threading.Thread(target=lambda: told.append(analyzed(detector)))
    asking.start()
    asking.join()
    file.close()
    assert types(told[0]) == {"file_descriptors": 1}
