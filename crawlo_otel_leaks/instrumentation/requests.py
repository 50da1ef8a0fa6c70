"""requests: sessions from creation to close; what their responses hold is urllib3's, and watched there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crawlo_otel_leaks import semconv
from crawlo_otel_leaks.instrumentation import urllib3
from crawlo_otel_leaks.instrumentation._http_sessions import SessionHandle, Sessions
from crawlo_otel_leaks.instrumentation._wrapping import Instrumentor, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crawlo_otel_leaks.runtime import Runtime


class RequestsHandle(SessionHandle):
    """A Session that is not closed. One that is collected costs nothing: what it keeps is closed with it."""

    __slots__ = ()
    cut_off = True

    def idle(self, session: Any) -> Iterable[Any]:
        """Yield the sockets of the connections that its adapters' pools keep."""
        for adapter in list(session.adapters.values()):
            managers = [getattr(adapter, "poolmanager", None), *list(getattr(adapter, "proxy_manager", {}).values())]
            for manager in managers:
                yield from urllib3.idle(manager)


class _Sessions(Sessions):
    """Sessions, but for those of `requests.get()` and its like, which close them themselves."""

    def opened(
        self,
        wrapped: Callable[..., Any],
        session: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Session.__init__."""
        wrapped(*args, **kwargs)
        frame = sys._getframe(1)  # noqa: SLF001
        if frame.f_globals.get("__name__") != "requests.api":
            self.note(session, frame)


class RequestsInstrumentor(Instrumentor):
    """Watches requests 2.28 and later."""

    library = "requests"
    requires = "requests >= 2.28"
    handles = (RequestsHandle,)

    def points(self, running: Runtime) -> list[Point]:
        """Return the table."""
        sessions = _Sessions(running, self.library, RequestsHandle)
        module = "requests.sessions"
        return [
            Point(module, "Session.close", sessions.closed, semconv.HTTP_SESSION),
            Point(module, "Session.send", sessions.used),
            Point(module, "Session.__init__", sessions.opened, semconv.HTTP_SESSION),
        ]
