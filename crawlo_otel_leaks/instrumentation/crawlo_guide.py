"""The import paths of Crawlo's guide, where the installed Crawlo lacks them."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # no __all__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_GUIDE: Final = Path(__file__).parent.parent / "guide"
MODULES: Final = {
    "crawlo.utils.leak_detector": "leak_detector.py",
    "crawlo.utils.resource_leak_monitor": "resource_leak_monitor.py",
    "crawlo.utils.resource_manager": "resource_manager.py",
    "crawlo.tools.leak_check": "leak_check.py",
}
"""What the guide imports or runs, and what stands for it. Crawlo itself must be there."""
PACKAGE: Final = "crawlo.tools"
"""A package that is gone from Crawlo 1.7."""


class GuideFinder(MetaPathFinder):
    """Finds the guide's modules. It is asked last, so that a module that Crawlo has is never replaced."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where one of the guide's modules is."""
        del path, target
        if fullname == PACKAGE:
            return spec_from_file_location(fullname, _GUIDE / "__init__.py", submodule_search_locations=[])
        file = MODULES.get(fullname)
        return None if file is None else spec_from_file_location(fullname, _GUIDE / file)


class CrawloGuideInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its base is untyped in some releases
    """Makes the guide's snippets run as printed, also where the settings switch tracking off."""

    _finder: GuideFinder | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: a checkout of Crawlo, which pip does not know, will do."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        del kwargs
        self._finder = GuideFinder()
        sys.meta_path.append(self._finder)

    def _uninstrument(self, **kwargs: Any) -> None:
        """Find them no more; what was imported stays."""
        del kwargs
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._finder = None
