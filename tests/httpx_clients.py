"""httpx's clients under watch, alone and beside contrib, and what their tests have in common."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from crawlo_otel_leaks.instrumentation.httpx import HttpxInstrumentor


@pytest.fixture(params=["alone", "contrib first", "contrib last"])
def watched_httpx(request, rig):
    """With and without contrib's instrumentation of the same library, in both orders."""
    ours, theirs = HttpxInstrumentor(), HTTPXClientInstrumentor()
    order = {"alone": [ours], "contrib first": [theirs, ours], "contrib last": [ours, theirs]}[request.param]
    for one in order:
        one.instrument()
    rig.runtime.tick()
    yield rig
    for one in reversed(order):
        one.uninstrument()


@pytest.fixture
def with_client(threaded_site):
    """Run an async program that is given a client which is closed behind it."""

    def run(program, **options):
        async def main():
            async with httpx.AsyncClient(base_url=threaded_site.url, trust_env=False, **options) as made:
                return await program(made)

        return asyncio.run(main())

    return run
