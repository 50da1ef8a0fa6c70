"""The leaks that Crawlo 1.7.3 ships with: each is named by its line inside Crawlo, and by its run."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
from pathlib import Path

import pytest
import servers
import spiders
from crawls import NEW, SOCKETS, crawl, failing, until_busy
from garbage import collect

pytest_plugins = ["crawls"]
pytestmark = pytest.mark.skipif(not NEW, reason="other releases have other leaks")
unless_sockets = pytest.mark.skipif(
    importlib.util.find_spec(SOCKETS) is None, reason="what a pool keeps is seen by its sockets alone"
)
REFUSED = {"PIPELINES": {"spiders.Refusing": 200}}


def accused(rig, run=None):
    """Kind, reason, file below the package, function and count of what is accused, of one run if told."""
    report = rig.runtime.report()
    leaks = [leak for leak in report.accused if run is None or leak.fingerprint in run.fingerprints]
    return {
        (leak.kind, inside(leak.site["file"]), leak.site["function"].rpartition(".")[2], leak.count) for leak in leaks
    }


def inside(file):
    return Path(file).as_posix().rpartition("/crawlo/")[2]


def both(first):
    return {"PIPELINES": {f"crawlo.pipelines.{first}": 100, "spiders.Refusing": 200}}


def judged(rig, step, times=1):
    """Run, and wait for the verdicts while the loop lives on."""

    async def main():
        for _ in range(times):
            await step()
        rig.settle()

    asyncio.run(main())
    return rig.runtime.report().runs


@unless_sockets
def test_a_postgresql_pool_stays_open_if_a_later_pipeline_fails_to_open(crawling):
    where = servers.Address.of(servers.postgres())
    settings = {
        **both("PostgreSQLPipeline"),
        **{f"PG_{key}": value for key, value in zip(("HOST", "PORT", "USER", "PASSWORD", "DB"), where, strict=True)},
        "PG_INSERT_IGNORE": True,
    }
    told = judged(crawling, lambda: failing(spiders.Brief, **settings), times=2)
    assert [(run.verdict, run.leaks, run.open) for run in told] == [("leak_detected", 2, {"socket": 2})] * 2
    # asyncpg opens the second connection of a pool in a task of its own, whose stack does not say who asked.
    assert ("socket", "pipelines/sql/postgresql.py", "_initialize_pool", 2) in accused(crawling)
    assert {leak.owner["run_id"] for leak in crawling.runtime.report().accused} == {told[0].run_id}


def test_an_aiosqlite_connection_and_its_thread_outlive_a_pipeline_that_fails_to_open(crawling, tmp_path):
    settings = {**both("SQLitePipeline"), "SQLITE_PATH": str(tmp_path), "SQLITE_DB": "crawl"}

    async def main():
        await failing(spiders.Brief, **settings)
        crawling.settle()
        connections = [one for one in gc.get_objects() if type(one).__module__ == "aiosqlite.core"]
        (run,) = crawling.runtime.report().runs
        found = accused(crawling, run)
        for one in connections:  # lest the tests end as badly as the crawl
            if type(one).__name__ == "Connection":
                await one.close()
        return run, found

    run, found = asyncio.run(main())
    assert (run.verdict, run.open) == ("leak_detected", {"db.connection": 1, "thread": 1})
    assert found == {
        ("db.connection", "pipelines/sql/sqlite.py", "_initialize_pool", 1),
        ("thread", "pipelines/sql/sqlite.py", "_initialize_pool", 1),
    }


def test_the_clean_twin_closes_its_database(crawling, tmp_path):
    settings = {"PIPELINES": {"crawlo.pipelines.SQLitePipeline": 100}, "SQLITE_PATH": str(tmp_path)}
    (run,) = judged(crawling, lambda: crawl(spiders.Brief, **settings))
    assert (run.verdict, accused(crawling)) == ("healthy", set())


def test_the_request_recorder_never_closes_its_file(crawling, tmp_path):
    extension = "crawlo.extensions.request_recorder.RequestRecorderExtension"
    settings = {
        "EXTENSIONS": [extension],
        "REQUEST_RECORDER_ENABLED": True,
        "REQUEST_RECORDER_OUTPUT_DIR": str(tmp_path),
    }

    async def step():
        await crawl(spiders.Brief, **settings)
        collect()

    told = judged(crawling, step, times=2)
    assert [(run.verdict, run.leaks) for run in told] == [("leak_detected", 1)] * 2
    assert accused(crawling) == {("file", "extensions/request_recorder.py", "_write_record", 2)}


@unless_sockets
def test_redis_connections_of_the_dedup_pipeline_outlive_the_run(crawling):
    host, port = servers.valkey()
    settings = {
        "DEFAULT_DEDUP_PIPELINE": "crawlo.pipelines.RedisDedupPipeline",
        "REDIS_HOST": host,
        "REDIS_PORT": port,
    }
    (run,) = judged(crawling, lambda: crawl(spiders.Brief, **settings))
    assert run.verdict == "leak_detected"
    assert run.open["socket"] >= 1
    places = {place[:2] for place in accused(crawling)}
    assert places
    assert places <= {("socket", "utils/redis/pool.py"), ("socket", "pipelines/dedup/redis.py")}


def test_of_a_cancelled_run_the_tasks_are_told_once_they_outlive_the_grace(crawling, crawl_site):
    crawl_site.ask("hold")

    async def main():
        task = asyncio.ensure_future(crawl(spiders.Silent))
        await until_busy(crawl_site)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = len(asyncio.all_tasks()) - 1
        crawling.pass_time(9.0, steps=9)
        assert crawling.verdicts == []
        crawling.settle()
        return left

    left = asyncio.run(main())
    crawl_site.ask("proceed")
    (run,) = crawling.runtime.report().runs
    assert (run.outcome, run.verdict) == ("cancelled", "leak_detected")
    assert 0 < run.leaks <= left
    assert {place[:2] for place in accused(crawling)} <= {
        ("task", "core/engine.py"),
        ("task", "core/scheduling/task_manager.py"),
        ("task", "downloader/aiohttp_downloader.py"),
    }


def test_a_log_file_belongs_to_the_process(crawling, tmp_path):
    log = tmp_path / "crawl.log"
    (run,) = judged(crawling, lambda: crawl(spiders.Brief, LOG_FILE=str(log), LOG_LEVEL="INFO"))
    assert (run.verdict, run.open, accused(crawling)) == ("healthy", {}, set())
