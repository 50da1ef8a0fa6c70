"""A threaded service over SQLAlchemy: sessions, raw connections, rollbacks, connections that are just dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from opentelemetry import trace
from sqlalchemy import create_engine, exc, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

SERVER = "postgres"
tracer = trace.get_tracer("soak")


def serve(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=4, max_overflow=8)
    scoped = scoped_session(sessionmaker(engine))
    with ThreadPoolExecutor(12) as executor:
        list(executor.map(lambda number: request(engine, scoped, number), range(2_500)))
    engine.dispose()


def request(engine, scoped, number):
    with tracer.start_as_current_span("request"):
        with Session(engine) as session:
            session.execute(text("SELECT :n"), {"n": number}).scalar()
            session.commit()
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT no_such_column"))
        except exc.ProgrammingError:
            pass
        scoped.execute(text("SELECT 1"))
        scoped.remove()
        if number % 20 == 0:
            engine.raw_connection().cursor().execute("SELECT 1")  # dropped: the pool takes it back, silently
