"""Which PostgreSQL server and database the arguments of a connect name; never a user's password."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORD: Final = re.compile(r"(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^'\s\\]|\\.)*))")
_CROWDED: Final = ("too many connections", "too many clients", "remaining connection slots")


def target(dsn: object, named: Mapping[str, Any]) -> str:
    """Return `host:port/database` as libpq would find it in a URL or `key=value` string, arguments and environment.

    Several hosts are told as they were given, and a socket's directory in the place of a host.
    """
    said = {**_said(dsn if isinstance(dsn, str) else ""), **{key: one for key, one in named.items() if one is not None}}
    host = said.get("host") or said.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
    port = said.get("port") or os.environ.get("PGPORT") or "5432"
    user = said.get("user") or os.environ.get("PGUSER") or ""
    database = said.get("dbname") or said.get("database") or os.environ.get("PGDATABASE") or user
    return f"{_listed(host)}:{_listed(port)}/{database}"


def crowded(error: BaseException) -> bool:
    """Whether a server refused a connection because it has too many; libpq gives no code, the text tells."""
    return any(words in str(error) for words in _CROWDED)


def _said(dsn: str) -> dict[str, str]:
    if "://" not in dsn:
        return {key: re.sub(r"\\(.)", r"\1", quoted or plain) for key, quoted, plain in _WORD.findall(dsn)}
    rest, _, query = dsn.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    user, _, places = authority.rpartition("@")
    hosts, ports = zip(*(_place(one) for one in places.split(",")), strict=True)
    found = {
        "user": unquote(user.partition(":")[0]),
        "host": unquote(",".join(hosts)),
        "port": ",".join(filter(None, ports)),
        "dbname": unquote(database),
    }
    return {key: one for key, one in {**found, **dict(parse_qsl(query))}.items() if one}


def _place(text: str) -> tuple[str, str]:
    """Split `host:port`, where the host may be an IPv6 address in brackets."""
    host, found, port = text.rpartition(":")
    return (host, port) if found and not port.endswith("]") else (text, "")


def _listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
