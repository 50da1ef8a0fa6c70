"""Every unreleased file, session and connection, shown inside the trace that acquired it."""

from crawlo_otel_leaks.api import adopt, release, scope, track
from crawlo_otel_leaks.version import __version__

__all__ = ["__version__", "adopt", "release", "scope", "track"]
