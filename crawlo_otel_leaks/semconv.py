"""Every name that leaves the process, once."""

from typing import Final

SCOPE: Final = "crawlo_otel_leaks"

# Kinds of handles (DESIGN: a closed list, so that metric cardinality is bounded).
FILE: Final = "file"
SOCKET: Final = "socket"
HTTP_SESSION: Final = "http.session"
HTTP_CONNECTION: Final = "http.connection"
REDIS_CONNECTION: Final = "redis.connection"
DB_CONNECTION: Final = "db.connection"
THREAD: Final = "thread"
TASK: Final = "task"
SUBPROCESS: Final = "subprocess"
CUSTOM: Final = "custom"
KINDS: Final = (
    FILE,
    SOCKET,
    HTTP_SESSION,
    HTTP_CONNECTION,
    REDIS_CONNECTION,
    DB_CONNECTION,
    THREAD,
    TASK,
    SUBPROCESS,
    CUSTOM,
)

# Attributes of leak spans, hold spans and log events.
HANDLE_KIND: Final = "crawlo.handle.kind"
HANDLE_NAME: Final = "crawlo.handle.name"
HANDLE_ID: Final = "crawlo.handle.id"
HANDLE_HOLDS: Final = "crawlo.handle.holds"
LEAK_REASON: Final = "crawlo.leak.reason"
LEAK_FINGERPRINT: Final = "crawlo.leak.fingerprint"
LEAK_HELD: Final = "crawlo.leak.held"
LEAK_COUNT: Final = "crawlo.leak.count"
TASK_NAME: Final = "crawlo.task.name"
SCOPE_NAME: Final = "crawlo.scope.name"
SPIDER_NAME: Final = "crawlo.spider.name"
RUN_ID: Final = "crawlo.run.id"
# Attributes of the span around a monitored function.
MONITOR_NAME: Final = "crawlo.monitor.name"
MONITOR_VERDICT: Final = "crawlo.monitor.verdict"
MONITOR_LEAKS: Final = "crawlo.monitor.leaks"
# A spider run, on its span and its event.
RUN_OUTCOME: Final = "crawlo.run.outcome"
RUN_PAGES: Final = "crawlo.run.pages"
RUN_HELD: Final = "crawlo.run.held"
RUN_MEMORY_BEFORE: Final = "crawlo.run.memory.before"
RUN_MEMORY_AFTER: Final = "crawlo.run.memory.after"
RUN_VERDICT: Final = "crawlo.run.verdict"
RUN_LEAKS: Final = "crawlo.run.leaks"
RUN_DURATION: Final = "crawlo.run.duration"
# From the OpenTelemetry semantic conventions, registry `code`, `thread`, `error`.
CODE_STACKTRACE: Final = "code.stacktrace"
CODE_FUNCTION_NAME: Final = "code.function.name"
CODE_FILE_PATH: Final = "code.file.path"
CODE_LINE_NUMBER: Final = "code.line.number"
THREAD_NAME: Final = "thread.name"
ERROR_TYPE: Final = "error.type"

# A pool, in the names of the semantic conventions for database client metrics.
POOL_NAME: Final = "db.client.connection.pool.name"
POOL_STATE: Final = "db.client.connection.state"
POOL_IDLE: Final = "idle"
POOL_USED: Final = "used"
# What a waiter in vain is told.
POOL_HELD: Final = "crawlo.pool.held"
POOL_LIMIT: Final = "crawlo.pool.limit"
POOL_WAITED: Final = "crawlo.pool.waited"
POOL_HOLDERS: Final = "crawlo.pool.holders"

# Log events.
POOL_EXHAUSTED: Final = "crawlo.pool.exhausted"
LEAK_DETECTED: Final = "crawlo.leak.detected"
LEAK_RESOLVED: Final = "crawlo.leak.resolved"
MEMORY_GROWTH: Final = "crawlo.memory.growth"
# What it says.
MEMORY_WINDOW: Final = "crawlo.memory.window"
MEMORY_SITES: Final = "crawlo.memory.sites"
MEMORY_TYPES: Final = "crawlo.memory.types"
MEMORY_REFERRERS: Final = "crawlo.memory.referrers"
RUN_JUDGED: Final = "crawlo.run.judged"

# Metrics.
METRIC_HANDLE_COUNT: Final = "crawlo.handle.count"
METRIC_HANDLE_AGE_MAX: Final = "crawlo.handle.age.max"
METRIC_HANDLE_DURATION: Final = "crawlo.handle.duration"
METRIC_LEAK_COUNT: Final = "crawlo.leak.count"
METRIC_LEAK_OPEN: Final = "crawlo.leak.open"
METRIC_FD_UNATTRIBUTED: Final = "crawlo.fd.unattributed"
METRIC_FD_ETA: Final = "crawlo.fd.exhaustion.eta"
METRIC_RUN_COUNT: Final = "crawlo.run.count"
METRIC_RUN_DURATION: Final = "crawlo.run.duration"
METRIC_RUN_PAGES: Final = "crawlo.run.pages"
METRIC_RUN_LEAKS: Final = "crawlo.run.leaks"
METRIC_POOL_ETA: Final = "crawlo.pool.exhaustion.eta"
METRIC_POOL_COUNT: Final = "db.client.connection.count"
METRIC_POOL_IDLE_MAX: Final = "db.client.connection.idle.max"
METRIC_POOL_IDLE_MIN: Final = "db.client.connection.idle.min"
METRIC_POOL_MAX: Final = "db.client.connection.max"
METRIC_POOL_PENDING: Final = "db.client.connection.pending_requests"
METRIC_POOL_TIMEOUTS: Final = "db.client.connection.timeouts"
METRIC_POOL_CREATE_TIME: Final = "db.client.connection.create_time"
METRIC_POOL_WAIT_TIME: Final = "db.client.connection.wait_time"
METRIC_POOL_USE_TIME: Final = "db.client.connection.use_time"
POOL_METRICS: Final = frozenset(
    {
        METRIC_POOL_ETA,
        METRIC_POOL_COUNT,
        METRIC_POOL_IDLE_MAX,
        METRIC_POOL_IDLE_MIN,
        METRIC_POOL_MAX,
        METRIC_POOL_PENDING,
        METRIC_POOL_TIMEOUTS,
        METRIC_POOL_CREATE_TIME,
        METRIC_POOL_WAIT_TIME,
        METRIC_POOL_USE_TIME,
    },
)
METRIC_TRACKER_BYTES: Final = "crawlo.tracker.bytes"
METRIC_TRACKER_DROPPED: Final = "crawlo.tracker.dropped"
METRIC_TRACKER_ERRORS: Final = "crawlo.tracker.errors"
METRIC_TRACKER_IGNORED: Final = "crawlo.tracker.ignored"
METRIC_TRACKER_SAMPLING: Final = "crawlo.tracker.sampling.rate"
FINGERPRINT_CAP: Final = 100
OTHER: Final = "other"

REPORT_SCHEMA: Final = "crawlo-leaks/1"
LIVE_SCHEMA: Final = "crawlo-leaks-live/1"
