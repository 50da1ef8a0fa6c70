"""What the guide calls `crawlo.utils.leak_detector`."""

from crawlo_otel_leaks import LeakDetector, cleanup_detectors, get_leak_detector
from crawlo_otel_leaks.snapshots import ResourceSnapshot

__all__ = ["LeakDetector", "ResourceSnapshot", "cleanup_detectors", "get_leak_detector"]
