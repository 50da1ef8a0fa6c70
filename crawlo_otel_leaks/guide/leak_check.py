"""What the guide calls `python -m crawlo.tools.leak_check`: `crawlo-leaks check`."""

import importlib.util
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Check a spider, as `crawlo-leaks check` does; return its exit code."""
    if importlib.util.find_spec("crawlo_otel_leaks.leak_check") is None:
        print("crawlo.tools.leak_check: this release of crawlo-otel-leaks has no check command", file=sys.stderr)  # noqa: T201  (a command's own voice)
        return 2
    checks = importlib.import_module("crawlo_otel_leaks.leak_check")
    return int(checks.main(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
