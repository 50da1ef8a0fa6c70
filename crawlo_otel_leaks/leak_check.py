"""`python -m crawlo_otel_leaks.leak_check MODULE SPIDER …`: the same as `crawlo-leaks check`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crawlo_otel_leaks import cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `crawlo-leaks check` with these arguments, or those of the process; return its exit code."""
    return cli.main(["check", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
