"""Whole crawls of the local site's 200 pages, again and again, in each way that programs run spiders."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest
import spiders
from crawls import OLD, crawl

pytest_plugins = ["crawls"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(OLD, reason="each run of 1.4 takes five seconds, whatever it crawls"),
]
RUNS = 20


async def one(rig, spider):
    for _ in range(RUNS):
        await crawl(spider)
        rig.pass_time(1.0)


async def three(rig, spider):
    for _ in range(RUNS):
        await asyncio.gather(*map(crawl, (spiders.Healthy, spider, spiders.Thorough)))
        rig.pass_time(1.0)


def in_one_loop(rig, spider):
    asyncio.run(one(rig, spider))
    return Counter({spider.name: RUNS})


def in_a_loop_a_run(rig, spider):
    for _ in range(RUNS):
        asyncio.run(crawl(spider))
        rig.pass_time(1.0)
    return Counter({spider.name: RUNS})


def beside_two_others(rig, spider):
    asyncio.run(three(rig, spider))
    return Counter((spiders.Healthy.name, spider.name, spiders.Thorough.name) * RUNS)


WAYS = pytest.mark.parametrize("way", [in_one_loop, in_a_loop_a_run, beside_two_others])


class Clean(spiders.Healthy):
    name = "clean"


@WAYS
def test_healthy_spiders_leave_nothing(crawling, way):
    expected = way(crawling, Clean)
    gc.collect()
    crawling.settle()
    runs = crawling.runtime.report().runs
    assert crawling.verdicts == []
    assert Counter(run.spider for run in runs) == expected
    assert {(run.verdict, run.pages) for run in runs} == {("healthy", spiders.PAGES)}


@WAYS
def test_a_wasteful_one_is_told_each_time(crawling, way):
    expected = way(crawling, spiders.Wasteful)
    gc.collect()
    crawling.settle()
    runs = crawling.runtime.report().runs
    leaky = Counter(run.spider for run in runs if run.verdict == "leak_detected")
    assert leaky == {spiders.Wasteful.name: expected[spiders.Wasteful.name]}
