"""Prints the option by which coverage leaves out what only a server tries that this machine does not have."""

from __future__ import annotations

import sys

import pytest
import servers

TRIED_ON = {
    servers.mariadb: ("_mysql", "aiomysql", "asyncmy", "pymysql"),
    servers.mongo: ("pymongo",),
}


def main() -> None:
    left_out = []
    for server, modules in TRIED_ON.items():
        try:
            server()
        except pytest.skip.Exception as reason:
            print(f"{', '.join(modules)}: left out of coverage, for there is {reason}", file=sys.stderr)  # noqa: T201
            left_out += [f"*/instrumentation/{name}.py" for name in modules]
    if left_out:
        print(f"--omit={','.join(left_out)}")  # noqa: T201  (a script that prints)


if __name__ == "__main__":
    main()
