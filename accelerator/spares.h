/* Handles that nobody has any more, each kept, emptied, for the next of its type: neither is freed nor made anew. */
#ifndef SPARES_H
#define SPARES_H

#include "slots.h"

/* Types at hand. */
#define SPARES 16

typedef struct {
    PyTypeObject *type;
    PyObject *handle; /* all its slots are NULL; NULL: none is kept */
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
    Py_XDECREF(before.type);
}

/* An object of a type that has slots alone, all of them NULL. */
static PyObject *fresh(Spare *spares, PyTypeObject *type) {
    Spare *spare = spare_of(spares, type);
    if (spare->type != type) {
        forget_spare(spare);
        *spare = (Spare){(PyTypeObject *)Py_NewRef((PyObject *)type), NULL};
    } else if (spare->handle != NULL) {
        PyObject *handle = spare->handle;
        spare->handle = NULL;
        return handle;
    }
    return type->tp_alloc(type, 0);
}

static void empty(PyObject *handle) {
    for (Py_ssize_t at = sizeof(PyObject); at < Py_TYPE(handle)->tp_basicsize; at += sizeof(PyObject *)) put(handle, at, NULL);
}

static inline int is_to_spare(Spare *spare, PyObject *handle) {
    return Py_REFCNT(handle) == 1 && spare->type == Py_TYPE(handle) && spare->handle == NULL;
}

/* Let go of a handle, the reference to which is taken. What is in its slots may run foreign code as it goes. */
static void let_go_of(Spare *spares, PyObject *handle) {
    Spare *spare = handle == NULL ? NULL : spare_of(spares, Py_TYPE(handle));
    if (spare != NULL && is_to_spare(spare, handle)) {
        empty(handle);
        if (is_to_spare(spare, handle)) {
            spare->handle = handle;
            return;
        }
    }
    Py_XDECREF(handle);
}
#endif
