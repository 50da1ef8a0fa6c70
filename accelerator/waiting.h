/* Where something to await is asked for in one call, awaited in another and lent in a third, as asyncpg's pools have it:
   the handle is kept by what is awaited, and then by who is about to lend. Where that is not plain, a ContextVar has it
   meanwhile, in a list, which those further in empty without a variable of their own. */
#ifndef WAITING_H
#define WAITING_H

#include "lending.h"

static PyObject *queue_name, *con_name, *aborted_name, *connected_name, *age_name;

static PyObject *ask_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (!is_noting(self, flags)) return straight(&self->stand, args, flags, keywords);
    PyObject *handle = taking_ask(self->taking, NULL);
    if (handle == NULL) return NULL;
    PyObject *asked = straight(&self->stand, args, flags, keywords);
    if (asked != NULL && handle != Py_None && keep_asked(self->taking, asked, handle) < 0) {
        PyObject *told = taking_failed(self->taking, "ask");
        if (told == NULL) Py_CLEAR(asked);
        Py_XDECREF(told);
    }
    Py_DECREF(handle);
    return asked;
}

/* Whether who asked is the running task, and waits for nothing yet; -1 with an exception. */
static int asks_first(Taking *self, PyObject *handle) {
    if (get(handle, self->handle_waits) != Py_False) return 0;
    PyObject *task = task_of(swift_of(self));
    if (task == NULL) return -1;
    int done = task != Py_None && refers_to(get(handle, swift_of(self)->handle_task), task);
    Py_DECREF(task);
    return done;
}

/* Whether a connection is open, as its own `is_closed` asks; -1 with an exception. */
static int is_open(Awaited *known, PyObject *connection) {
    if (connection == Py_None) return 0;
    PyObject *aborted = attribute_of(&known->aborted, connection, aborted_name);
    PyObject *protocol = aborted == NULL ? NULL : attribute_of(&known->protocol, connection, protocol_name);
    PyObject *connected = protocol == NULL ? NULL : call_known(&known->connected, protocol, connected_name);
    int done = connected == NULL ? -1 : aborted == Py_False && connected == Py_True;
    Py_XDECREF(aborted);
    Py_XDECREF(protocol);
    Py_XDECREF(connected);
    return done;
}

/* Whether a holder's connection is of its pool's age, and is lent as it is; -1 with an exception. */
static int is_current(Awaited *known, PyObject *holder, PyObject *pool) {
    PyObject *age = attribute_of(&known->age, holder, age_name);
    PyObject *current = age == NULL ? NULL : attribute_of(&known->current, pool, age_name);
    int done = current == NULL ? -1 : PyObject_RichCompareBool(age, current, Py_EQ);
    Py_XDECREF(age);
    Py_XDECREF(current);
    return done;
}

/* What comes next out of a pool's queue, the caller's reference, where that has an open connection; None where it has
   not, NULL with an exception. */
static PyObject *at_hand(Taking *self, PyObject *pool) {
    Awaited *known = &self->awaited;
    PyObject *queue = attribute_of(&self->known_in, pool, self->known_by), *free = queue == NULL ? NULL : PyObject_GetAttr(queue, queue_name);
    Py_XDECREF(queue);
    if (free == NULL) return NULL;
    int some = PyList_CheckExact(free) && PyList_GET_SIZE(free) > 0;
    PyObject *next = some ? Py_NewRef(PyList_GET_ITEM(free, PyList_GET_SIZE(free) - 1)) : Py_NewRef(Py_None);
    Py_DECREF(free);
    if (next == Py_None) return next;
    PyObject *connection = attribute_of(&known->con, next, con_name);
    int done = connection == NULL ? -1 : is_open(known, connection);
    Py_XDECREF(connection);
    if (done > 0) done = is_current(known, next, pool);
    if (done <= 0) Py_SETREF(next, done < 0 ? NULL : Py_NewRef(Py_None));
    return next;
}

/* Whether nothing else runs between an awaiting and what is at hand: a time to wait is up to another task up to 3.11. */
static int is_at_once(PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    if (count == 1 && keywords == NULL) return 1;
    if (count != 2 || keywords != NULL) return 0;
    if (args[1] == Py_None) return 1;
#if PY_VERSION_HEX >= 0x030C0000
    return (PyFloat_CheckExact(args[1]) || PyLong_CheckExact(args[1])) && PyFloat_AsDouble(args[1]) > 0;
#else
    return 0;
#endif
}

/* As AsyncpgPools.begun_at_once; -1 with an exception. */
static int begun_at_once(Taking *self, PyObject *thing, PyObject *handle) {
    int done = asks_first(self, handle);
    PyObject *holder = done <= 0 ? NULL : at_hand(self, thing);
    if (holder == NULL) return done <= 0 ? done : -1;
    Py_DECREF(holder); /* the queue has it */
    if (holder == Py_None) return 0;
    PyObject *pool = now_is(swift_of(self), &tenure(handle)->acquired_at) < 0 ? NULL : pool_for(self, thing);
    if (pool == NULL) return -1;
    put(handle, self->handle_pool, pool);
    put(handle, self->handle_waits, Py_NewRef(Py_True));
    self->awaited.holder = holder;
    self->awaited.next = Py_NewRef(handle);
    return 1;
}

/* Give the handle of who asked to Python's own stand, in a list of its own; -1 with an exception. */
static int pass_on(Lending *self, PyObject *handle) {
    PyObject *list = PyList_New(1), *before = NULL;
    if (list != NULL) {
        PyList_SET_ITEM(list, 0, Py_NewRef(handle));
        before = PyContextVar_Set(self->detail, list);
    }
    Py_XDECREF(list);
    Py_XDECREF(before);
    return before == NULL ? -1 : 0;
}

static PyObject *wait_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (!is_noting(self, flags)) return straight(&self->stand, args, flags, keywords);
    Step *awaiting = running();
    PyObject *asked = awaiting == NULL ? NULL : first_local(awaiting), *handle = asked == NULL ? NULL : asker_of(self->taking, asked);
    Py_CLEAR(self->taking->awaited.next);
    int done = handle == NULL || !is_at_once(args, PyVectorcall_NARGS(flags), keywords) ? 0 : begun_at_once(self->taking, args[0], handle);
    PyErr_Clear(); /* Python meets it as well, and tells */
    int passed = handle == NULL || done > 0 ? 0 : pass_on(self, handle);
    Py_XDECREF(handle);
    if (passed < 0) return NULL;
    return done > 0 ? straight(&self->stand, args, flags, keywords) : PyObject_Vectorcall(self->python, args, flags, keywords);
}

/* The list that has the handle of who waits, the caller's reference; NULL where nobody does. */
static PyObject *asked_in(Lending *self) {
    PyObject *asked = NULL;
    if (PyContextVar_Get(self->detail, NULL, &asked) < 0) PyErr_Clear(); /* it cannot be read: as if nobody did */
    if (asked != NULL && PyList_CheckExact(asked) && PyList_GET_SIZE(asked) == 1 && Py_IS_TYPE(PyList_GET_ITEM(asked, 0), Py_TYPE(self->taking->template)))
        return asked;
    Py_XDECREF(asked);
    return NULL;
}

/* The handle of who waits, which is taken off its list; NULL where nobody does. */
static PyObject *taken_off(Lending *self) {
    PyObject *asked = asked_in(self), *handle = NULL;
    if (asked != NULL && get(PyList_GET_ITEM(asked, 0), self->taking->handle_waits) == Py_True) {
        handle = PyList_GET_ITEM(asked, 0);
        PyList_SET_ITEM(asked, 0, Py_NewRef(Py_None));
    }
    Py_XDECREF(asked);
    return handle;
}

/* The handle of whom a holder is about to lend to, the caller's reference; NULL where that is not known. */
static PyObject *borrower_of(Lending *self, PyObject *holder) {
    Awaited *awaited = &self->taking->awaited;
    PyObject *next = awaited->next;
    if (next == NULL || awaited->holder != holder) return taken_off(self);
    awaited->next = NULL;
    return next;
}

/* Stands for the making of what the program has, of who lends it and the connection. */
static PyObject *hold_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (!is_noting(self, flags)) return straight(&self->stand, args, flags, keywords);
    if (PyVectorcall_NARGS(flags) != 3 || keywords != NULL) return PyObject_Vectorcall(self->python, args, flags, keywords);
    PyObject *handle = borrower_of(self, args[1]), *result = straight(&self->stand, args, flags, NULL);
    if (handle != NULL && result != NULL && !is_held(self->taking, handle, args[2])) Py_CLEAR(result);
    Py_XDECREF(handle);
    return result;
}
#endif
