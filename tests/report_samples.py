"""Reports for the tests of their formats, hostile ones among them."""

from __future__ import annotations

from crawlo_otel_leaks.report.model import Entry, Report, Shortage, SpiderRun

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


def hostile():
    """A report with the hostile text wherever a text can be."""
    bad = frame(HOSTILE, file=HOSTILE, text=HOSTILE)
    owner = dict.fromkeys(("spider", "run_id", "task", "thread", "scope"), HOSTILE)
    everywhere = entry(name=HOSTILE, site=bad, stack=[bad], owner=owner, trace_id=HOSTILE, span_id=HOSTILE)
    odd = entry(2, kind=HOSTILE, reason=HOSTILE, fingerprint=HOSTILE)
    handles = {"by_kind": {HOSTILE: 1, "__proto__": 2}}
    ran = run(spider=HOSTILE, run_id=HOSTILE, outcome=HOSTILE, error=HOSTILE, verdict=HOSTILE, open={HOSTILE: 1})
    types = [{"type": HOSTILE, "first": 1, "last": 2, "growth": 1, "referrers": [HOSTILE]}]
    sites = [{"file": HOSTILE, "line": 1, "growth_bytes": 1, "count": 1}]
    suspects = [{"quantity": HOSTILE, "slope": 1.0, "confidence": 1.0, "eta_s": None}]
    block = process(30, type_changes=types, memory_sites=sites, suspects=suspects)
    about = {"command": HOSTILE, "generated_at": HOSTILE}
    return report(everywhere, odd, handles=handles, process=block, runs=[ran], **about)


QUANTITIES = {
    "rss": (120 * 2**20, 2**20),
    "objects": (450_000, 150),
    "fds": (48, 1),
    "unattributed": (0, 0),
    "sockets": (12, 0),
    "threads": (9, 0),
    "tasks": (30, 0),
    "db_connections": (0, 1),
    "redis_connections": (0, 0),
}
"""What each quantity is at first, and what it adds from point to point."""


def process(count, interval=15.0, **changed):
    """The process block of so many snapshots, in which memory grows."""
    points = [
        {
            "at": 5000 + place * interval,
            "wall": 1767322800 + place * interval,
            **{name: first + place * more for name, (first, more) in QUANTITIES.items()},
        }
        for place in range(count)
    ]
    trend = {"slope": 0.0, "confidence": 0.1, "eta_s": None}
    growing = {"slope": 2**20 / interval, "confidence": 0.998, "eta_s": 7200.0}
    changes = {
        name: {"first": points[0][name], "last": points[-1][name], "verdict": "stable", **trend}
        for name in (QUANTITIES if points else ())
    }
    if points:
        changes["rss"] = {**changes["rss"], "verdict": "growing", **growing}
    suspects = [{"quantity": "rss", **growing}] if points else []
    return {"series": points, "changes": changes, "suspects": suspects, "type_changes": [], **changed}


def run(number=0, gap=100.0, **changed):
    """A spider run, at the time of the series above."""
    facts = {
        "spider": "news",
        "run_id": f"run-{number}",
        "started": 1767322800 + number * gap,
        "duration_s": 0.9 * gap,
        "outcome": "finished",
        "error": None,
        "pages": 200,
        "verdict": "leak_detected",
        "leaks": 32,
        "fingerprints": {f"{1:016x}": 32},
        "open": {"db.connection": 2, "task": 30},
        "before": {"rss": 120 * 2**20, "fds": 40, "threads": 9, "tasks": 1},
        "after": {"rss": 130 * 2**20, "fds": 42, "threads": 9, "tasks": 31},
        "rss_peak": 131 * 2**20,
        "trace_id": None,
        "span_id": None,
    }
    return SpiderRun(**{**facts, **changed})
