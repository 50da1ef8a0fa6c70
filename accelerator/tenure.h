/* Since when and until when a handle is held, and what exempts it: the part of it that is no object. */
#ifndef TENURE_H
#define TENURE_H

#include <Python.h>
#include <math.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    double acquired_at, released_at; /* seconds; NaN: not yet */
    char process, shared;
} Tenure;

static PyTypeObject Tenure_Type;

static inline Tenure *tenure(PyObject *handle) { return (Tenure *)handle; }

static inline void begin_tenure(PyObject *handle) {
    tenure(handle)->acquired_at = tenure(handle)->released_at = NAN;
    tenure(handle)->process = tenure(handle)->shared = 0;
}

static inline void tenure_like(PyObject *handle, PyObject *other) {
    tenure(handle)->acquired_at = tenure(other)->acquired_at;
    tenure(handle)->released_at = tenure(other)->released_at;
    tenure(handle)->process = tenure(other)->process;
    tenure(handle)->shared = tenure(other)->shared;
}

static inline int is_released(PyObject *handle) { return !isnan(tenure(handle)->released_at); }

static PyObject *tenure_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(named)) {
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) begin_tenure(self);
    return self;
}

/* Note a time, in seconds, or None: 0, or -1 with an exception, and all as it was. */
static int set_moment(PyObject *given, double *moment) {
    if (given == NULL) return PyErr_Format(PyExc_TypeError, "a time cannot be deleted"), -1;
    double seconds = given == Py_None ? NAN : PyFloat_AsDouble(given);
    if (seconds == -1 && PyErr_Occurred()) return -1;
    *moment = seconds;
    return 0;
}

static PyObject *tenure_acquired_at(Tenure *self, void *Py_UNUSED(none)) {
    if (isnan(self->acquired_at)) return PyErr_Format(PyExc_AttributeError, "acquired_at");
    return PyFloat_FromDouble(self->acquired_at);
}

static PyObject *tenure_released_at(Tenure *self, void *Py_UNUSED(none)) {
    return isnan(self->released_at) ? Py_NewRef(Py_None) : PyFloat_FromDouble(self->released_at);
}

static int set_acquired_at(Tenure *self, PyObject *given, void *Py_UNUSED(none)) { return set_moment(given, &self->acquired_at); }
static int set_released_at(Tenure *self, PyObject *given, void *Py_UNUSED(none)) { return set_moment(given, &self->released_at); }

static PyGetSetDef tenure_moments[] = {
    {"acquired_at", (getter)tenure_acquired_at, (setter)set_acquired_at, NULL, NULL},
    {"released_at", (getter)tenure_released_at, (setter)set_released_at, NULL, NULL},
    {NULL},
};

static PyMemberDef tenure_marks[] = {
    {"process", T_BOOL, offsetof(Tenure, process), 0, NULL},
    {"shared", T_BOOL, offsetof(Tenure, shared), 0, NULL},
    {NULL},
};

static PyTypeObject Tenure_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Tenure",
    .tp_doc = "The times of a handle, in seconds, and what exempts it.",
    .tp_basicsize = sizeof(Tenure),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = tenure_new,
    .tp_members = tenure_marks,
    .tp_getset = tenure_moments,
};
#endif
