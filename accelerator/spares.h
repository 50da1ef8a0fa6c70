/* Handles that nobody has any more, each kept for the next of its type: neither is freed nor made anew. */
#ifndef SPARES_H
#define SPARES_H

#include "slots.h"

/* Types at hand. */
#define SPARES 16

typedef struct {
    PyObject *template; /* what the next one is to be like */
    PyObject *handle;   /* is like it, but for times that are written over; NULL: none is kept */
} Spare;

static int is_plain_type(PyTypeObject *type) {
    if (type->tp_itemsize == 0 && type->tp_dictoffset == 0 && type->tp_weaklistoffset == 0) return 1;
    PyErr_Format(PyExc_TypeError, "%s has more than slots, as was not expected", type->tp_name);
    return 0;
}

static inline Spare *spare_of(Spare *spares, PyTypeObject *type) { return &spares[((size_t)type >> 5) % SPARES]; }

static void forget_spare(Spare *spare) {
    Spare before = *spare;
    *spare = (Spare){NULL, NULL};
    Py_XDECREF(before.handle);
    Py_XDECREF(before.template);
}

static inline int is_own_time(PyObject *value) { return value != NULL && PyFloat_CheckExact(value) && Py_REFCNT(value) == 1; }

/* Give each slot what a template has there. A time that nobody else has stays where the template has nothing. */
static void be_like(PyObject *handle, PyObject *template) {
    for (Py_ssize_t at = sizeof(PyObject); at < Py_TYPE(handle)->tp_basicsize; at += sizeof(PyObject *)) {
        PyObject *before = get(handle, at), *after = get(template, at);
        if (before == after || (after == NULL && is_own_time(before))) continue;
        *place_of(handle, at) = Py_XNewRef(after);
        Py_XDECREF(before);
    }
}

/* A handle just as the template is, whose type has slots alone. */
static PyObject *cloned(Spare *spares, PyObject *template) {
    Spare *spare = spare_of(spares, Py_TYPE(template));
    if (spare->template != template) {
        forget_spare(spare);
        *spare = (Spare){Py_NewRef(template), NULL};
    } else if (spare->handle != NULL) {
        PyObject *handle = spare->handle;
        spare->handle = NULL;
        return handle;
    }
    PyObject *handle = Py_TYPE(template)->tp_alloc(Py_TYPE(template), 0);
    if (handle != NULL) be_like(handle, template);
    return handle;
}

static inline int is_to_spare(Spare *spare, PyObject *handle) {
    return Py_REFCNT(handle) == 1 && spare->template != NULL && Py_IS_TYPE(handle, Py_TYPE(spare->template)) && spare->handle == NULL;
}

/* Let go of a handle, the reference to which is taken. What is in its slots may run foreign code as it goes, which may
   have the spare forgotten, or a template be another. */
static void let_go_of(Spare *spares, PyObject *handle) {
    Spare *spare = handle == NULL ? NULL : spare_of(spares, Py_TYPE(handle));
    if (spare != NULL && is_to_spare(spare, handle)) {
        PyObject *template = Py_NewRef(spare->template);
        be_like(handle, template);
        int same = spare->template == template;
        Py_DECREF(template);
        if (same && is_to_spare(spare, handle)) {
            spare->handle = handle;
            return;
        }
    }
    Py_XDECREF(handle);
}

/* Put a time, in seconds, into a slot: into the number that is there, where nobody else has that. */
static inline int put_time(PyObject *object, Py_ssize_t offset, double seconds) {
    PyObject *before = get(object, offset), *after;
    if (is_own_time(before)) return ((PyFloatObject *)before)->ob_fval = seconds, 0;
    if ((after = PyFloat_FromDouble(seconds)) == NULL) return -1;
    put(object, offset, after);
    return 0;
}
#endif
