/* What the functions here are given once, and keep: the tracker's parts, and where its classes have their slots. */
#ifndef SWIFT_H
#define SWIFT_H

#include <Python.h>
#include "index.h"
#include "memory.h"
#include "refs.h"
#include "shelf.h"
#include "spares.h"
#include "times.h"
#include "versions.h"

/* What is asked for each time, because it may change: the tracker tells when it does. */
#define TERMS(TERM) TERM(clock) TERM(brief) TERM(closed)

/* Every object that is kept, by the name it is given under. */
#define PARTS(PART) \
    PART(tracker) PART(sites) PART(young) PART(brief_holds) PART(release) \
    PART(context) PART(get_context) PART(suppress_key) PART(span_key) PART(caller) PART(plain_span) PART(this_span) PART(end_of) \
    PART(running_loop) PART(current_task) PART(current_tasks) PART(this_thread) PART(scope) PART(monotonic) \
    PART(handle_type) PART(site_type) PART(holds_type) PART(marked) PART(scoped) TERMS(PART)

#define HANDLE_SLOTS(SLOT) \
    SLOT(site) SLOT(stack) SLOT(span) SLOT(task) SLOT(task_name) SLOT(thread) SLOT(scope)

#define SITE_SLOTS(SLOT) SLOT(acquired) SLOT(leaked) SLOT(process) SLOT(latest) SLOT(holds) SLOT(frames)

/* What the tracker has for a kind: its young handles, and the durations of its brief holds. */
typedef struct {
    PyObject *kind, *young, *brief;
} Rack;

/* Kinds at hand. */
#define RACKS 16

/* What objects of just this type have under a name of a method's. */
typedef struct {
    PyTypeObject *type;
    PyObject *method;
} Method;

typedef struct {
    PyObject_HEAD
#define PART(name) PyObject *name;
    PARTS(PART)
#undef PART
    Py_ssize_t counted, first, every, depth, near_count, full, by_thread;
    Memory memory;
    Rack racks[RACKS];
    Spare spares[SPARES];
    uint64_t thread; /* whose description is at hand; 0: nobody's */
    PyObject *owner;
    Inside end_in; /* where spans of the last one's type have `span_end`, of which `end_of` told */
    PyObject *span_end;
    Method name_of_task;
#define SLOT(name) Py_ssize_t handle_##name;
    HANDLE_SLOTS(SLOT)
#undef SLOT
#define SLOT(name) Py_ssize_t site_##name;
    SITE_SLOTS(SLOT)
#undef SLOT
    Py_ssize_t holds_brief;
} Swift;

static PyObject *classify_name, *at_name, *get_name_name, *owner_name, *ignored_name;

static PyTypeObject Swift_Type;

static inline int collected(void) {
    PyErr_SetString(PyExc_RuntimeError, "called while it is being collected");
    return 0;
}

/* Whether it still has its parts: the collector takes them before it takes what may still call us. */
static inline int whole(Swift *self) {
    return self->holds_type != NULL || collected();
}

static inline int arguments(Swift *self, const char *name, Py_ssize_t found, Py_ssize_t expected) {
    if (found == expected) return whole(self);
    PyErr_Format(PyExc_TypeError, "%s: %zd arguments found, %zd expected", name, found, expected);
    return 0;
}

/* The error that is set, the caller's reference; it is set no more. */
static inline PyObject *caught(void) {
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/* Set an error, the reference to which is taken, as it was before it was caught. */
static inline void set_again(PyObject *error) {
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
}

/* Have `failed` told of the error that is set, a failure of ours; one that is no failure but ends the program goes on.
   The reference to what that returned, or NULL with an exception. */
static inline PyObject *tell(PyObject *failed, const char *where) {
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return NULL;
    PyObject *error = caught(), *told = PyObject_CallFunction(failed, "sO", where, error);
    Py_XDECREF(error);
    return told;
}

/* A reference to what is given under a name; NULL with an exception. */
static inline PyObject *given(PyObject *parts, const char *name) {
    PyObject *part = PyDict_GetItemString(parts, name);
    if (part == NULL) return PyErr_Format(PyExc_TypeError, "%s is missing", name);
    return Py_NewRef(part);
}

/* Call what needs nothing: a function of C's without the way to it. */
static inline PyObject *call(PyObject *function) {
    if (PyCFunction_CheckExact(function) && PyCFunction_GET_FLAGS(function) == METH_NOARGS)
        return PyCFunction_GET_FUNCTION(function)(PyCFunction_GET_SELF(function), NULL);
    return PyObject_CallNoArgs(function);
}

static inline void forget_method(Method *known) {
    Method before = *known;
    *known = (Method){NULL, NULL};
    Py_XDECREF(before.type);
    Py_XDECREF(before.method);
}

/* Call a method that needs nothing, of an object whose type, which is kept, is looked at when it is not the last one's. */
static inline PyObject *call_known(Method *known, PyObject *thing, PyObject *name) {
    if (known->type != Py_TYPE(thing)) {
        PyObject *method = PyObject_GetAttr((PyObject *)Py_TYPE(thing), name);
        if (method == NULL) return NULL;
        forget_method(known);
        *known = (Method){(PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(thing)), method};
    }
    if (!Py_IS_TYPE(known->method, &PyMethodDescr_Type)) return PyObject_CallMethodNoArgs(thing, name);
    PyMethodDef *function = ((PyMethodDescrObject *)known->method)->d_method;
    return function->ml_flags == METH_NOARGS ? function->ml_meth(thing, NULL) : PyObject_CallOneArg(known->method, thing);
}

typedef int (*Fill)(PyObject *self, PyObject *parts);

/* An object that `fill` gives its parts: there is none without them, so that no method needs to ask for each. */
static inline PyObject *of_parts(PyTypeObject *type, PyObject *args, PyObject *parts, Fill fill) {
    if (PyTuple_GET_SIZE(args) || parts == NULL) {
        PyErr_SetString(PyExc_TypeError, "keywords alone are expected");
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL && fill(self, parts) < 0) Py_CLEAR(self);
    return self;
}

static inline int is_handle(Swift *self, PyObject *thing) {
    if (PyObject_TypeCheck(thing, (PyTypeObject *)self->handle_type)) return 1;
    PyErr_Format(PyExc_TypeError, "%s found, a handle expected", Py_TYPE(thing)->tp_name);
    return 0;
}
#endif
