/* Where a connection is asked for in one call, waited for in another and there in a third, as asyncpg's pools have it: a
   ContextVar has the handle meanwhile, in a list, which those further in empty without a variable of their own. */
#ifndef WAITING_H
#define WAITING_H

#include "lending.h"

static PyObject *queue_name, *con_name, *is_closed_name;

static PyObject *ask_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (is_noting(self, flags)) {
        PyObject *handle = taking_ask(self->taking, NULL), *asked = handle == NULL ? NULL : PyList_New(1), *before = NULL;
        if (asked != NULL) {
            PyList_SET_ITEM(asked, 0, Py_NewRef(handle));
            before = PyContextVar_Set(self->detail, asked);
            Py_DECREF(asked);
        }
        Py_XDECREF(handle);
        if (before == NULL) return NULL;
        Py_DECREF(before);
    }
    return straight(self, args, flags, keywords);
}

/* The list that has the handle of who asked, the caller's reference; NULL where nobody did. */
static PyObject *asked_in(Lending *self) {
    PyObject *asked = NULL;
    if (PyContextVar_Get(self->detail, NULL, &asked) < 0) PyErr_Clear(); /* it cannot be read: as if nobody had */
    if (asked != NULL && PyList_CheckExact(asked) && PyList_GET_SIZE(asked) == 1 && Py_IS_TYPE(PyList_GET_ITEM(asked, 0), Py_TYPE(self->taking->template)))
        return asked;
    Py_XDECREF(asked);
    return NULL;
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

/* Whether a connection is open; -1 with an exception. */
static int is_open(PyObject *connection) {
    if (connection == Py_None) return 0;
    PyObject *closed = PyObject_CallMethodNoArgs(connection, is_closed_name);
    int done = closed == NULL ? -1 : PyObject_Not(closed);
    Py_XDECREF(closed);
    return done;
}

/* Whether what comes next out of a pool's queue has an open connection; -1 with an exception. */
static int is_at_hand(Taking *self, PyObject *pool) {
    PyObject *queue = PyObject_GetAttr(pool, self->known_by), *free = queue == NULL ? NULL : PyObject_GetAttr(queue, queue_name);
    int done = free == NULL ? -1 : PyList_CheckExact(free) && PyList_GET_SIZE(free) > 0;
    if (done > 0) {
        PyObject *next = Py_NewRef(PyList_GET_ITEM(free, PyList_GET_SIZE(free) - 1)), *connection = PyObject_GetAttr(next, con_name);
        done = connection == NULL ? -1 : is_open(connection);
        Py_XDECREF(connection);
        Py_DECREF(next);
    }
    Py_XDECREF(free);
    Py_XDECREF(queue);
    return done;
}

/* As AsyncpgPools.begun_at_once; -1 with an exception. */
static int begun_at_once(Taking *self, PyObject *thing, PyObject *handle) {
    int done = asks_first(self, handle);
    if (done > 0) done = is_at_hand(self, thing);
    if (done <= 0) return done;
    double now;
    PyObject *pool = now_is(swift_of(self), &now) < 0 ? NULL : pool_for(self, thing);
    if (pool == NULL) return -1;
    put(handle, self->handle_pool, pool);
    if (put_time(handle, swift_of(self)->handle_acquired_at, now) < 0) return -1;
    put(handle, self->handle_waits, Py_NewRef(Py_True));
    return 1;
}

static PyObject *wait_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (!is_noting(self, flags)) return straight(self, args, flags, keywords);
    PyObject *asked = asked_in(self), *handle = asked == NULL ? NULL : Py_NewRef(PyList_GET_ITEM(asked, 0));
    Py_XDECREF(asked);
    int done = handle == NULL ? 0 : begun_at_once(self->taking, args[0], handle);
    Py_XDECREF(handle);
    if (done > 0) return straight(self, args, flags, keywords);
    PyErr_Clear(); /* Python meets it as well, and tells */
    return PyObject_Vectorcall(self->python, args, flags, keywords);
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

/* Stands for the making of what the program has, of who lends it and the connection. */
static PyObject *hold_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (!is_noting(self, flags)) return straight(self, args, flags, keywords);
    if (PyVectorcall_NARGS(flags) != 3 || keywords != NULL) return PyObject_Vectorcall(self->python, args, flags, keywords);
    PyObject *result = straight(self, args, flags, NULL);
    PyObject *handle = result == NULL ? NULL : taken_off(self);
    if (handle != NULL && !is_held(self->taking, handle, args[2])) Py_CLEAR(result);
    Py_XDECREF(handle);
    return result;
}
#endif
