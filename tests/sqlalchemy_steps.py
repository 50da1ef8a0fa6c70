"""What the tests of SQLAlchemy share."""

from __future__ import annotations

import servers
import sqlalchemy
from sqlalchemy import text

LEAKED = ("db.connection", "owner_finished")
NEW = not sqlalchemy.__version__.startswith("1.")
SELECT = text("select 1")


def postgres_url():
    return servers.postgres().replace("postgresql:", f"postgresql+{'psycopg' if NEW else 'psycopg2'}:")


def take(engine, tracer):
    with tracer.start_as_current_span("job"):
        return engine.connect()
