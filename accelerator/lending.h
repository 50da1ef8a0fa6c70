/* What stands in front of a pool's own methods, where these are functions: what takes, gives back and uses. */
#ifndef LENDING_H
#define LENDING_H

#include "stand.h"
#include "taking.h"

typedef struct {
    Stand stand;
    Taking *taking;
    PyObject *python; /* stands for the same in Python, for what is not plain */
    PyObject *detail; /* give_back, end: the attribute that has the connection, or None; wait, hold: a ContextVar */
    Inside detail_in;
} Lending;

static inline int is_noting(Lending *self, size_t flags) { return is_live(&self->stand, flags) && self->taking->failed != NULL; }

/* The tracker's pool, the caller's reference; NULL, perhaps with an exception, where only Python can tell by whom a pool
   is asked, or what for. */
static PyObject *pool_asked(Taking *self, PyObject *thing) {
    Step *asker = running();
    if (asker == NULL || asks(self, code_of(asker))) return NULL;
    PyObject *pool = pool_known(self, thing);
    if (pool != NULL && get(pool, self->pool_stacked) != Py_True) Py_CLEAR(pool);
    return pool;
}

/* The host's error stays set; what it says of who holds what is added to it. */
static void waited_in_vain(Taking *self, PyObject *thing, PyObject *handle) {
    PyObject *error = caught();
    PyObject *done = self->waited == NULL ? NULL : PyObject_CallFunctionObjArgs(self->waited, thing, handle, error, NULL);
    if (done == NULL && PyErr_Occurred()) { /* what ends the program goes on */
        Py_DECREF(error);
        return;
    }
    Py_XDECREF(done);
    set_again(error);
}

/* Hold what was got; 0 with an exception that ends the program. */
static int is_held(Taking *self, PyObject *handle, PyObject *connection) {
    if (self->failed == NULL) return 1; /* it was collected meanwhile */
    PyObject *done = got_by(self, handle, connection);
    Py_XDECREF(done);
    return done != NULL;
}

static PyObject *take_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (!is_noting(self, flags)) return straight(&self->stand, args, flags, keywords);
    PyObject *pool = pool_asked(self->taking, args[0]);
    if (pool == NULL) {
        PyErr_Clear(); /* Python meets it as well, and tells */
        return PyObject_Vectorcall(self->python, args, flags, keywords);
    }
    PyObject *handle = begun_by(self->taking, args[0], pool, NULL);
    Py_DECREF(pool);
    if (handle == NULL) return NULL;
    PyObject *connection = straight(&self->stand, args, flags, keywords);
    if (handle != Py_None) {
        if (connection == NULL) waited_in_vain(self->taking, args[0], handle);
        else if (!is_held(self->taking, handle, connection)) Py_CLEAR(connection);
    }
    Py_DECREF(handle);
    return connection;
}

/* The connection that a method is called with, whatever its parameter is called; the caller's reference. */
static PyObject *given_back(Lending *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    if (self->detail != Py_None) return attribute_of(&self->detail_in, args[0], self->detail);
    if (count > 1 || (keywords != NULL && PyTuple_GET_SIZE(keywords))) return Py_NewRef(args[1]);
    return Py_NewRef(Py_None);
}

static PyObject *give_back_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (is_noting(self, flags)) {
        PyObject *connection = given_back(self, args, PyVectorcall_NARGS(flags), keywords);
        PyObject *done = connection == NULL ? taking_failed(self->taking, "release") : taking_gave_back(self->taking, connection);
        Py_XDECREF(connection);
        if (done == NULL) return NULL;
        Py_DECREF(done);
    }
    return straight(&self->stand, args, flags, keywords);
}

/* As give_back, where what has the connection is told too, and Python decides where it is not plain. */
static PyObject *end_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (is_noting(self, flags)) {
        PyObject *told[] = {given_back(self, args, PyVectorcall_NARGS(flags), keywords), args[0]};
        PyObject *done = told[0] == NULL ? taking_failed(self->taking, "release") : taking_ended(self->taking, told, 2);
        Py_XDECREF(told[0]);
        if (done == NULL) return NULL;
        Py_DECREF(done);
    }
    return straight(&self->stand, args, flags, keywords);
}

static PyObject *use_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Lending *self = (Lending *)callable;
    if (is_noting(self, flags)) {
        PyObject *noted = taking_note_use(self->taking, args[0]);
        if (noted == NULL) return NULL;
        Py_DECREF(noted);
        if (noted == Py_False) return PyObject_Vectorcall(self->python, args, flags, keywords);
    }
    return straight(&self->stand, args, flags, keywords);
}
#endif
