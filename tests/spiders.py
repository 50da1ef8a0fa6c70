"""Spiders of a local site, whose address is in the environment; `crawlo-leaks check` is told of this module too."""

from __future__ import annotations

import os

import aiohttp
from crawlo import Field, Item, Request, Spider

SITE = "CRAWL_TEST_SITE"
PAGES = 200
BUSY = 40
"""Pages that keep silent, of which as many are asked for at once as the spider's concurrency allows."""
kept = []


class Page(Item):
    url = Field()


class Healthy(Spider):
    name = "healthy"
    pages = PAGES

    def start_requests(self):
        for number in range(self.pages):
            yield Request(f"{os.environ[SITE]}/page/{number}", callback=self.parse)

    def parse(self, response):
        yield Page(url=response.url)


class Brief(Healthy):
    name = "brief"
    pages = 10


class Second(Brief):
    name = "second"


class Leaky(Brief):
    name = "leaky"

    def parse(self, response):
        if response.url.endswith("/0"):
            kept.append(aiohttp.ClientSession())  # leak: a session a run, kept by the module
        yield Page(url=response.url)


class Silent(Spider):
    name = "silent"

    def start_requests(self):
        for number in range(BUSY):
            yield Request(f"{os.environ[SITE]}/silent/{number}", callback=self.parse)

    def parse(self, response):
        yield Page(url=response.url)


class Broken(Spider):
    name = "broken"

    def __init__(self):
        raise ValueError("no such spider today")


class Refusing:
    """A pipeline that fails to open, so that crawlo closes none of those that it opened before."""

    @classmethod
    def from_crawler(cls, _crawler):
        return cls()

    async def open_spider(self, _spider):
        raise RuntimeError("the last pipeline does not open")

    def process_item(self, item, _spider):
        return item


class Thorough(Healthy):
    name = "thorough"


class Wasteful(Leaky):
    name = "wasteful"
    pages = PAGES
