"""Whole crawls of the local site's 200 pages, again and again, in each way that programs run spiders."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import spiders
from crawls import OLD, crawl
from garbage import collect

pytest_plugins = ["crawls"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(OLD, reason="each run of 1.4 takes five seconds, whatever it crawls"),
]


async def one(rig, spider, runs):
    for _ in range(runs):
        await crawl(spider)
        rig.pass_time(1.0)


async def three(rig, spider, runs):
    for _ in range(runs):
        await asyncio.gather(*map(crawl, (spiders.Healthy, spider, spiders.Thorough)))
        rig.pass_time(1.0)


def in_one_loop(rig, spider, runs):
    asyncio.run(one(rig, spider, runs))
    return Counter({spider.name: runs})


def in_a_loop_a_run(rig, spider, runs):
    for _ in range(runs):
        asyncio.run(crawl(spider))
        rig.pass_time(1.0)
    return Counter({spider.name: runs})


def beside_two_others(rig, spider, runs):
    asyncio.run(three(rig, spider, runs))
    return Counter((spiders.Healthy.name, spider.name, spiders.Thorough.name) * runs)


WAYS = pytest.mark.parametrize("way", [in_one_loop, in_a_loop_a_run, beside_two_others])


class Clean(spiders.Healthy):
    name = "clean"


@WAYS
def test_healthy_spiders_leave_nothing(crawling, way):
    expected = way(crawling, Clean, 20)
    collect()
    crawling.settle()
    runs = crawling.runtime.report().runs
    assert crawling.verdicts == []
    assert Counter(run.spider for run in runs) == expected
    assert {(run.verdict, run.pages) for run in runs} == {("healthy", spiders.PAGES)}


@WAYS
def test_a_wasteful_one_is_told_each_time(crawling, way):
    expected = way(crawling, spiders.Wasteful, 3)
    collect()
    crawling.settle()
    runs = crawling.runtime.report().runs
    leaky = Counter(run.spider for run in runs if run.verdict == "leak_detected")
    assert leaky == {spiders.Wasteful.name: expected[spiders.Wasteful.name]}
