"""Reports for the tests of their formats, hostile ones among them."""

from __future__ import annotations

from crawlo_otel_leaks.report.model import Entry, Report, Shortage

HOSTILE = "</script><img src=x onerror=document.title='injected'></script <img src=y><!--<script>&lt;b&gt;"
MARKUP = "[bold red]x[/] [link=http://evil.example]y[/link] :smile:"
STEERING = "a\x1b[2Jb\rc\nd\u202ee"
NO_UTF8 = "caf\udce9.txt"


def frame(function="fetch", line=42, file="/srv/shop/app/views.py", text="handle = open(path)"):
    return {"function": function, "file": file, "line": line, "text": text}


def entry(number=1, **changed):
    stack = [frame(), frame("handle_request", 7, text="return fetch(path)")]
    facts = {
        "kind": "file",
        "reason": "owner_finished",
        "name": f"/data/page-{number}.html",
        "held_s": 312.4,
        "count": 1,
        "fingerprint": f"{number:016x}",
        "site": stack[0],
        "stack": stack,
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "owner": {"spider": None, "run_id": None, "task": "Task-1", "thread": "MainThread", "scope": "import"},
        "resolved": False,
    }
    return Entry(**{**facts, **changed})


def group(count=12, where="app/views.py:42 get_user", **changed):
    facts = {"count": count, "held_s": 312.0, "where": where, "owner_finished": True, "trace_id": None, "span_id": None}
    return {**facts, **changed}


def shortage(**changed):
    facts = {
        "what": "connections of pool db:5432/app",
        "kind": "db.connection",
        "name": "db:5432/app",
        "held": 15,
        "limit": 15,
        "waited_s": 5.0,
        "count": 2,
        "trace_id": None,
        "span_id": None,
        "holders": [
            group(trace_id=f"{7:032x}", span_id=f"{7:016x}"),
            group(3, "app/jobs.py:7 run", owner_finished=False),
        ],
    }
    return Shortage(**{**facts, **changed})


def report(*entries, **changed):
    accused = any(one.accused for one in entries)
    facts = {
        "status": "leak_detected" if accused else "healthy",
        "leaks": list(entries),
        "handles": {"by_kind": {"file": 3, "http.session": 1}},
        "generated_at": "2026-01-02T03:04:05+00:00",
        "command": "crawl.py",
    }
    return Report(**{**facts, **changed})


def mixed(name="/data/page.html"):
    return report(
        entry(1, reason="abandoned", count=3, name=name),
        entry(2),
        entry(2, reason="held_too_long"),
        entry(3, resolved=True, reason="scope_end"),
        entry(4, reason="slow"),
        shortages=[shortage()],
    )
