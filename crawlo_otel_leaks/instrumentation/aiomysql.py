"""aiomysql: connections out of its pools, and those that a program opens itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlo_otel_leaks.instrumentation import _mysql
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor

if TYPE_CHECKING:
    from crawlo_otel_leaks.instrumentation._wrapping import Point
    from crawlo_otel_leaks.runtime import Runtime


class AiomysqlInstrumentor(Instrumentor):
    """Watches aiomysql 0.2 and later."""

    library = "aiomysql"
    requires = "aiomysql >= 0.2"
    handles = (_mysql.MySQLPooled, _mysql.MySQLOpen)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        return _mysql.points(running, _mysql.AsyncPools(running), "aiomysql", "_fill_free_pool")
