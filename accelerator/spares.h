/* Handles that nobody has any more, each kept for the next of its type: neither is freed nor made anew. */
#ifndef SPARES_H
#define SPARES_H

#include "slots.h"
#include "tenure.h"

/* Types at hand. */
#define SPARES 16

typedef struct {
    PyObject *template; /* what the next one is to be like */
    PyObject *handle;   /* is like it; NULL: none is kept */
} Spare;

/* Whether all that there is to a handle of some type is its tenure, and slots. */
static int is_plain_type(PyTypeObject *type) {
    if (PyType_IsSubtype(type, &Tenure_Type) && type->tp_itemsize == 0 && type->tp_dictoffset == 0 && type->tp_weaklistoffset == 0) return 1;
    PyErr_Format(PyExc_TypeError, "%s found, a handle that has a tenure and slots alone expected", type->tp_name);
    return 0;
}

static inline Spare *spare_of(Spare *spares, PyTypeObject *type) { return &spares[((size_t)type >> 5) % SPARES]; }

static void forget_spare(Spare *spare) {
    Spare before = *spare;
    *spare = (Spare){NULL, NULL};
    Py_XDECREF(before.handle);
    Py_XDECREF(before.template);
}

/* Give each slot what a template has there. */
static void be_like(PyObject *handle, PyObject *template) {
    tenure_like(handle, template);
    for (Py_ssize_t at = sizeof(Tenure); at < Py_TYPE(handle)->tp_basicsize; at += sizeof(PyObject *)) {
        PyObject *before = get(handle, at), *after = get(template, at);
        if (before == after) continue;
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
#endif
