"""What the guide calls `crawlo.utils.resource_manager`."""

from crawlo_otel_leaks import (
    ManagedResource,
    ResourceManager,
    ResourceStatus,
    ResourceType,
    cleanup_all_managers,
    get_resource_manager,
)

__all__ = [
    "ManagedResource",
    "ResourceManager",
    "ResourceStatus",
    "ResourceType",
    "cleanup_all_managers",
    "get_resource_manager",
]
