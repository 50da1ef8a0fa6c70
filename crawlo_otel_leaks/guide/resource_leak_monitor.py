"""What the guide calls `crawlo.utils.resource_leak_monitor`."""

from crawlo_otel_leaks import ResourceLeakMonitor, monitor_crawler, monitor_resource_leaks

__all__ = ["ResourceLeakMonitor", "monitor_crawler", "monitor_resource_leaks"]
