"""What `open` refuses it refuses with the same words, tracked or not."""

from __future__ import annotations

import builtins

import pytest

pytestmark = pytest.mark.usefixtures("instrumented")

REFUSED = [
    (FileNotFoundError, ("missing",), {}),
    (FileNotFoundError, ("missing", "rb", 0), {}),
    (ValueError, ("data.txt", "r", 0), {}),
    (ValueError, ("data.txt", "rwb", 0), {}),
    (ValueError, ("data.txt", "bb", 0), {}),
    (ValueError, ("data.txt", "rb", 0, "utf-8"), {}),
    (ValueError, ("data.txt", "q"), {}),
    (TypeError, (), {}),
    (TypeError, (), {"buffering": 0, "mode": "rb"}),
    (TypeError, (1.5, "rb", 0), {}),
    (TypeError, ("data.txt", "rb", "0"), {}),
    (TypeError, ("data.txt", "rb", 0), {"colour": 1}),
    (TypeError, ("data.txt", "rb", 0, None, None, None, True, None, 1), {}),
    (TypeError, ("data.txt", "rb", 0), {"mode": "rb"}),
    (LookupError, ("data.txt",), {"encoding": "no such encoding"}),
    (OSError, (999_999, "rb", 0), {}),
    (IsADirectoryError, (".", "rb", 0), {}),
    (ValueError, ("data\0.txt", "rb", 0), {}),
]


@pytest.fixture
def in_place(path, monkeypatch):
    monkeypatch.chdir(path.parent)


@pytest.mark.parametrize(("kind", "arguments", "named"), REFUSED, ids=str)
def test_what_open_refuses_it_refuses_as_before_and_leaves_nothing(rig, in_place, kind, arguments, named):
    with pytest.raises(kind) as tracked:
        open(*arguments, **named)  # noqa: PTH123
    with pytest.raises(kind) as untracked:
        builtins.open.__wrapped__(*arguments, **named)
    assert str(tracked.value) == str(untracked.value)
    assert type(tracked.value) is type(untracked.value)
    assert rig.held == []
    rig.runtime.tick()
    assert rig.verdicts == []
