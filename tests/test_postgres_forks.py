"""PostgreSQL drivers and forks: what the parent holds is not the child's."""

from __future__ import annotations

import programs
import pytest
import servers

PROGRAM = """
import asyncio, gc, os, sys
from opentelemetry import trace
from crawlo_otel_leaks import runtime

def held():
    return runtime.current().tracker.count("db.connection")

def fork_while_held(kept):
    assert held() == 1, held()
    pid = os.fork()
    if not pid:
        inherited = held()
        kept.clear()
        gc.collect()
        runtime.current().tick()
        os._exit(inherited or held())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert held() == 1, held()
"""
ASYNCPG = """
import asyncpg

async def main():
    pool = await asyncpg.create_pool(URL, min_size=1, max_size=1)
    kept = await pool.acquire()
    fork_while_held([])
    assert await kept.fetchval("select 1") == 1
    await pool.release(kept)
    await pool.close()
    kept = await asyncpg.connect(URL)
    fork_while_held([])
    await kept.close()

asyncio.run(main())
"""
PSYCOPG = """
import psycopg, psycopg_pool

with psycopg_pool.ConnectionPool(URL, min_size=1, max_size=1, open=True) as pool:
    kept = pool.getconn()
    fork_while_held([])
    assert kept.execute("select 1").fetchone() == (1,)
    pool.putconn(kept)
kept = [psycopg.connect(URL)]
fork_while_held(kept)
kept[0].close()
"""
PSYCOPG2 = """
import psycopg2, psycopg2.pool

pool = psycopg2.pool.SimpleConnectionPool(1, 1, URL)
kept = pool.getconn()
fork_while_held([])
pool.putconn(kept)
pool.closeall()
kept = [psycopg2.connect(URL)]
fork_while_held(kept)
kept[0].close()
"""
ENABLED = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "", "REPORT": "out.json"}


@pytest.mark.parametrize("body", [ASYNCPG, PSYCOPG, PSYCOPG2], ids=["asyncpg", "psycopg", "psycopg2"])
def test_what_a_parent_holds_is_not_its_childs(tmp_path, monkeypatch, body):
    # Coverage forks badly beside busy threads: a child inherits its lock as it is.
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    source = PROGRAM + f"URL = {servers.postgres()!r}\n" + body
    done = programs.run(tmp_path, source, **ENABLED)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert programs.leaks(tmp_path / "out.json") == []
