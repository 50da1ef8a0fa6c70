"""Every unreleased file, session and connection, shown inside the trace that acquired it."""

from crawlo_otel_leaks.api import adopt, release, scope, track
from crawlo_otel_leaks.leak_detector import LeakDetector, cleanup_detectors, get_leak_detector
from crawlo_otel_leaks.managed import ManagedResource, ResourceStatus, ResourceType
from crawlo_otel_leaks.manager import ResourceManager, cleanup_all_managers, get_resource_manager
from crawlo_otel_leaks.monitor import ResourceLeakMonitor, monitor_crawler, monitor_resource_leaks
from crawlo_otel_leaks.version import __version__

__all__ = [
    "LeakDetector",
    "ManagedResource",
    "ResourceLeakMonitor",
    "ResourceManager",
    "ResourceStatus",
    "ResourceType",
    "__version__",
    "adopt",
    "cleanup_all_managers",
    "cleanup_detectors",
    "get_leak_detector",
    "get_resource_manager",
    "monitor_crawler",
    "monitor_resource_leaks",
    "release",
    "scope",
    "track",
]
