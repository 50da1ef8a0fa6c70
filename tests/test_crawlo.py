from __future__ import annotations

import asyncio
import contextvars

import pytest
import spiders
from crawlo.crawler import Crawler
from crawls import OLD, crawl, failing, until_asked
from garbage import collect

from crawlo_otel_leaks.instrumentation.crawlo import CrawloInstrumentor, Crawls

pytest_plugins = ["crawls"]


RUNS = 2 if OLD else 20
"""Of 1.4 each takes five seconds, whatever it crawls."""


def runs(rig):
    return rig.runtime.report().runs


def test_a_crawl_is_a_span_a_verdict_and_a_row_of_the_report(crawling, telemetry):
    asyncio.run(crawl(spiders.Brief))
    crawling.settle()
    (span,) = telemetry.spans("spider run")
    (event,) = telemetry.events("crawlo.run.judged")
    (run,) = runs(crawling)
    for attributes in (span.attributes, event.attributes):
        assert attributes["crawlo.spider.name"] == "brief"
        assert attributes["crawlo.run.id"] == run.run_id
        assert attributes["crawlo.run.outcome"] == "finished"
        assert attributes["crawlo.run.pages"] == 10
        assert attributes["crawlo.run.memory.after"] == run.after["rss"] > 1_000_000
    assert event.attributes["crawlo.run.verdict"] == "healthy"
    assert event.trace_id == span.context.trace_id
    assert (run.spider, run.outcome, run.pages, run.verdict, run.leaks, run.open) == (
        "brief",
        "finished",
        10,
        "healthy",
        0,
        {},
    )


def test_the_verdict_comes_after_the_grace(crawling, telemetry):
    asyncio.run(crawl(spiders.Brief))
    crawling.pass_time(9.0)
    assert [run.verdict for run in runs(crawling)] == ["insufficient_data"]
    assert not telemetry.events("crawlo.run.judged")
    crawling.pass_time(2.0)
    assert [run.verdict for run in runs(crawling)] == ["healthy"]


def test_runs_are_counted_by_spider_and_verdict(crawling, telemetry):
    before = {name: counted(telemetry, name) for name in ("crawlo.run.count", "crawlo.run.pages")}
    asyncio.run(crawl(spiders.Brief))
    crawling.settle()
    key = ("brief", "finished", "healthy")
    assert counted(telemetry, "crawlo.run.count").get(key, 0) - before["crawlo.run.count"].get(key, 0) == 1
    key = ("brief", None, None)
    assert counted(telemetry, "crawlo.run.pages").get(key, 0) - before["crawlo.run.pages"].get(key, 0) == 10


def counted(telemetry, name):
    return {
        tuple(
            point.attributes.get(f"crawlo.{key}") for key in ("spider.name", "run.outcome", "run.verdict")
        ): point.value
        for point in telemetry.metrics().get(name, [])
    }


def test_what_a_spider_leaves_is_told_with_its_run(crawling):
    async def main():
        await crawl(spiders.Leaky)
        crawling.settle()

    asyncio.run(main())
    (run,) = runs(crawling)
    assert (run.verdict, run.open) == ("leak_detected", {"http.session": 1})
    (leak,) = crawling.runtime.report().accused
    assert leak.owner["spider"] == "leaky"
    assert leak.owner["run_id"] == run.run_id
    assert leak.site["file"] == spiders.__file__
    assert run.fingerprints == {leak.fingerprint: 1}


def test_three_spiders_at_once_are_told_apart(crawling):
    async def main():
        await asyncio.gather(*map(crawl, (spiders.Brief, spiders.Leaky, spiders.Second)))
        crawling.settle()

    asyncio.run(main())
    assert {run.spider: run.verdict for run in runs(crawling)} == {
        "brief": "healthy",
        "leaky": "leak_detected",
        "second": "healthy",
    }


@pytest.mark.parametrize("loops", ["one loop", "a loop a run"])
def test_a_healthy_spider_leaves_nothing_run_after_run(crawling, loops):
    async def main():
        for _ in range(RUNS):
            await crawl(spiders.Brief)
            crawling.pass_time(1.0)
        crawling.settle()

    if loops == "one loop":
        asyncio.run(main())
    else:
        for _ in range(RUNS):
            asyncio.run(crawl(spiders.Brief))
            crawling.pass_time(1.0)
    collect()
    crawling.settle()
    assert crawling.verdicts == []
    assert [run.verdict for run in runs(crawling)] == ["healthy"] * RUNS


def test_a_run_that_fails_is_a_run(crawling, telemetry):
    asyncio.run(failing(spiders.Broken))
    crawling.settle()
    (run,) = runs(crawling)
    assert (run.outcome, run.error, run.verdict) == ("failed", "RuntimeError", "healthy")
    (span,) = telemetry.spans("spider run")
    assert span.attributes["error.type"] == "RuntimeError"
    assert not span.status.is_ok


def test_a_run_that_is_going_on_shows_its_pages(crawling, crawl_site):
    crawl_site.ask("hold")

    async def main():
        task = asyncio.ensure_future(crawl(spiders.Silent))
        await until_asked(crawl_site, 1)
        (run,) = runs(crawling)
        assert (run.outcome, run.verdict, run.pages, run.duration_s) == ("running", "insufficient_data", 0, None)
        crawling.clock.advance(3.0)
        crawl_site.ask("proceed")
        await task

    asyncio.run(main())
    (run,) = runs(crawling)
    assert (run.outcome, run.pages, run.duration_s) == ("finished", spiders.BUSY, 3.0)


class Stuck:
    async def crawl(self):
        await asyncio.sleep(0)


def test_a_crawl_that_is_collected_is_ended_by_the_next_tick(rig, telemetry):
    def begin_and_drop():
        step = Crawls(rig.runtime).crawl(Stuck().crawl, Stuck(), (), {})
        step.send(None)
        del step  # closes it, in the midst of whatever the collector interrupts

    contextvars.copy_context().run(begin_and_drop)
    assert [run.outcome for run in runs(rig)] == ["running"]
    assert not telemetry.spans("spider run")
    rig.settle()
    assert [run.outcome for run in runs(rig)] == ["cancelled"]
    assert len(telemetry.spans("spider run")) == 1


def test_a_crawl_looks_as_it_did_before(crawling):
    crawl_of_crawlo = Crawler.crawl
    assert asyncio.iscoroutinefunction(crawl_of_crawlo)
    step = crawl_of_crawlo(object())
    assert step.__qualname__ == "Crawler.crawl"
    step.close()


def test_uninstrumented_crawls_are_no_runs(crawling):
    CrawloInstrumentor().uninstrument()
    asyncio.run(crawl(spiders.Brief))
    assert runs(crawling) == []
