"""What records are kept in, in C, is to whoever reads it what a dictionary is, and counts as Python does."""

import gc
import random
import sys
import weakref

import pytest
from conftest import accelerator

from crawlo_otel_leaks.durations import Batch, Durations

swift = accelerator()
Index, Shelf, Times = swift.Index, swift.Shelf, swift.Times


class Thing(swift.Tenure):
    """As far as a shelf is concerned, a handle."""

    __slots__ = ("__weakref__", "kept", "walk")


def keys(table):
    """Return things to be kept, by themselves or by what stands for them, and the things."""
    things = [Thing() for _ in range(400)]
    return (things, things) if table is Shelf else ([id(thing) for thing in things], things)


def same(ours, plain):
    if isinstance(ours, Shelf):
        return (list(ours), len(ours)) == (list(plain), len(plain))
    views = (iter, lambda table: table.items(), lambda table: table.values(), lambda table: [len(table)])
    return all(list(view(ours)) == list(view(plain)) for view in views)


def both(table):
    return table(), {}


@pytest.mark.parametrize("table", [Shelf, Index])
@pytest.mark.parametrize("most", [3, 8, 9, 60, 400])
@pytest.mark.parametrize("order", ["newest first", "oldest first", "at random"])
def test_it_keeps_what_a_dictionary_would(table, most, order):
    chance, (names, _things) = random.Random(most), keys(table)
    ours, plain = both(table)
    for step in range(3000):
        grows = len(plain) < most and chance.random() < (0.9 if step % 600 < 300 else 0.2)
        if grows or not plain:
            key = chance.choice(names)
            for one in (ours, plain):
                one[key] = None
        else:
            known = list(plain)
            key = {"newest first": known[-1], "oldest first": known[0], "at random": chance.choice(known)}[order]
            assert [one.pop(key, "missing") for one in (ours, plain)] == [None, None]
        other = chance.choice(names)
        assert (other in ours) is (other in plain)
        if table is Index:
            assert ours.get(other, "no") == plain.get(other, "no")
    assert same(ours, plain)
    for one in (ours, plain):
        one.clear()
    assert same(ours, plain)


@pytest.mark.parametrize("table", [Shelf, Index])
def test_what_is_kept_again_stays_where_it_is(table):
    (one, other, *_), _things = keys(table)
    for kept in both(table):
        kept[one] = kept[other] = kept[one] = None
        assert list(kept) == [one, other]
        assert kept[one] is None
        del kept[one]
        kept[one] = None
        assert list(kept) == [other, one]


@pytest.mark.parametrize("leave", [lambda shelf, thing: shelf.pop(thing), lambda shelf, _: shelf.clear()])
def test_a_handle_lies_on_one_shelf_of_each_sort(leave):
    thing, shelf, other, beside = Thing(), Shelf(), Shelf(0), Shelf(1)
    shelf[thing] = beside[thing] = None
    with pytest.raises(ValueError, match="another shelf of the same sort"):
        other[thing] = None
    assert (thing in shelf, thing in other, thing in beside) == (True, False, True)
    assert other.pop(thing, "not there") == "not there"
    leave(shelf, thing)
    other[thing] = None
    assert (list(shelf), list(other), list(beside)) == ([], [thing], [thing])


def test_a_handle_whose_shelf_is_gone_lies_on_none():
    thing, shelf = Thing(), Shelf()
    shelf[thing] = None
    del shelf
    other = Shelf()
    other[thing] = None
    assert list(other) == [thing]


def test_an_index_has_what_it_was_given():
    (one, other, *_), things = keys(Index)
    for kept in both(Index):
        kept[one] = things[0]
        kept[one] = things[1]
        assert (kept[one], kept.get(one), kept.setdefault(one, 1), kept.setdefault(other, 2)) == (things[1],) * 3 + (2,)
        assert (kept.pop(one), kept.pop(one, 3)) == (things[1], 3)
        assert kept.items() == [(other, 2)] or list(kept.items()) == [(other, 2)]


@pytest.mark.parametrize("step", [lambda t: t[1], lambda t: t.pop(1), lambda t: t.__delitem__(1)])
@pytest.mark.parametrize("table", [Shelf, Index])
def test_what_is_missing_is_told(table, step):
    for one in both(table):
        with pytest.raises(KeyError, match=r"^1$"):
            step(one)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (lambda: Index()["name"], TypeError),
        (lambda: Index().pop(0), ValueError),
        (lambda: Shelf("a"), TypeError),
        (lambda: Shelf(2), ValueError),
        (lambda: Shelf(-1), ValueError),
        (lambda: Shelf().__setitem__(1, None), TypeError),
        (lambda: Index(a=1), TypeError),
        (lambda: Shelf().pop(), TypeError),
        (lambda: Index().get(1, 2, 3), TypeError),
        (lambda: Index().setdefault(), TypeError),
        (lambda: Times(0), ValueError),
        (lambda: Times(1).append("long"), TypeError),
        (lambda: Times(1).take().pop(), IndexError),
        (lambda: Times(1).take().sums(), ValueError),
        (lambda: Times(1).take().counts(["a"]), TypeError),
        (lambda: Times(1).take().counts(1), TypeError),
        (lambda: Times(1).take().counts([1.0] * 2000), ValueError),
    ],
)
def test_what_is_not_expected_is_refused(step, error):
    with pytest.raises(error):
        step()


def test_who_goes_through_it_is_told_when_it_changes():
    shelf, things = Shelf(), [Thing() for _ in range(100)]
    shelf[things[0]] = None
    walk = iter(shelf)
    for thing in things:
        shelf[thing] = None
    with pytest.raises(RuntimeError, match="changed"):
        next(walk)
    assert next(iter(Shelf()), None) is None
    ended = iter(shelf)
    assert len(list(ended)) == 100
    assert list(ended) == []


@pytest.mark.parametrize("table", [Shelf, Index])
def test_what_goes_with_what_is_let_go_may_come_back(table):
    class Restless(Thing):
        def __del__(self):
            kept.clear()
            kept[key] = key

    kept, key = table(), Thing() if table is Shelf else 2
    for count in range(1, 20):
        restless = Restless()
        kept[restless if table is Shelf else id(restless)] = restless
        del restless
        kept.clear()
        assert len(kept) == 1, count


@pytest.mark.parametrize("table", [Shelf, Index])
def test_circles_through_it_are_collected(table):
    kept, thing = table(), Thing()
    thing.kept, gone = kept, weakref.ref(thing)
    kept[thing if table is Shelf else id(thing)] = thing
    walk = iter(kept)
    thing.walk = walk
    del kept, thing, walk
    gc.collect()
    assert gone() is None


def test_a_burst_leaves_little_behind():
    kept, things = Index(), [Thing() for _ in range(20_000)]
    for thing in things:
        kept[id(thing)] = thing
    for thing in things[100:]:
        del kept[id(thing)]
    del thing
    assert kept.values() == things[:100]
    assert sys.getrefcount(things[-1]) == sys.getrefcount(things[0]) - 1


@pytest.mark.parametrize("count", [1, 5, 64, 65, 1000, 2500])
def test_durations_are_counted_as_in_python(count):
    chance, boundaries = random.Random(count), [0.0, 0.1, 0.5, 2.0]
    values = [*(chance.expovariate(1.0) for _ in range(count - 1)), 0.5]
    ours, plain = Times(1000), Durations(1000)
    for value in values:
        ours.append(value)
        plain.append(value)
    assert len(ours) == len(plain)
    batches = ours.take(), plain.take()
    assert len(ours) == len(plain) == 0
    ours.append(1)
    assert [sorted(batch.values()) for batch in batches] == [sorted(values[-1000:])] * 2
    for _ in range(2):
        assert batches[0].counts(boundaries) == batches[1].counts(boundaries)
        assert batches[0].sums() == pytest.approx(batches[1].sums())
        taken = batches[0].pop()
        assert taken in values
        rest = batches[0].values()
        if not rest:
            break
        batches = batches[0], Batch(rest)


def test_durations_that_are_cleared_are_gone():
    times = Times(3)
    for value in (1.0, 2.0, 3.0, 4.0):
        times.append(value)
    times.clear()
    times.append(5.0)
    assert times.take().values() == [5.0]
