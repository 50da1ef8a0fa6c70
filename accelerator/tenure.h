/* Since when and until when a handle is held, of what kind it is, what exempts it, and where it lies: the part of it that is
   no object. */
#ifndef TENURE_H
#define TENURE_H

#include <Python.h>
#include <math.h>
#include <stdint.h>

/* Kinds that are told apart; 0 is none. */
#define KINDS 256
/* Places that a shelf may have, at most; a handle has one more than its place, or 0 for none. */
#define PLACE_BITS 27
#define PLACES_MOST ((1 << PLACE_BITS) - 1)
/* Sorts of shelves: a handle may lie on one of each. */
#define SORTS 2

typedef struct {
    PyObject_HEAD
    double acquired_at, released_at; /* seconds; NaN: not yet */
    uint64_t kind : 8, process : 1, shared : 1, place : PLACE_BITS, place_beside : PLACE_BITS;
} Tenure;

static PyTypeObject Tenure_Type;

static inline Tenure *tenure(PyObject *handle) { return (Tenure *)handle; }

static inline void begin_tenure(PyObject *handle) {
    tenure(handle)->acquired_at = tenure(handle)->released_at = NAN;
}

/* All but where it lies. */
static inline void tenure_like(PyObject *handle, PyObject *other) {
    tenure(handle)->acquired_at = tenure(other)->acquired_at;
    tenure(handle)->released_at = tenure(other)->released_at;
    tenure(handle)->kind = tenure(other)->kind;
    tenure(handle)->process = tenure(other)->process;
    tenure(handle)->shared = tenure(other)->shared;
}

static inline int is_released(PyObject *handle) { return !isnan(tenure(handle)->released_at); }

static inline int is_tenure(PyObject *thing) { return PyObject_TypeCheck(thing, &Tenure_Type); }

/* Where a handle lies on its shelf of a sort; -1: on none. */
static inline Py_ssize_t lies_at(PyObject *handle, int sort) {
    return (Py_ssize_t)(sort ? tenure(handle)->place_beside : tenure(handle)->place) - 1;
}

static inline void lay_at(PyObject *handle, int sort, Py_ssize_t place) {
    if (sort) tenure(handle)->place_beside = place + 1;
    else tenure(handle)->place = place + 1;
}

/* -- kinds, each of which is kept for good: there are few -- */

static PyObject *kinds[KINDS];

/* The kind of a handle, borrowed; NULL where it has none yet. */
static inline PyObject *kind_of(PyObject *handle) { return kinds[tenure(handle)->kind]; }

/* The number of a kind; -1 with an exception. */
static int number_of(PyObject *given) {
    if (given == NULL || !PyUnicode_CheckExact(given)) return PyErr_Format(PyExc_TypeError, "a kind is expected to be a string"), -1;
    PyObject *kind = Py_NewRef(given);
    PyUnicode_InternInPlace(&kind);
    int number = 1;
    while (number < KINDS && kinds[number] != NULL && kinds[number] != kind) number++;
    if (number < KINDS && kinds[number] == NULL) kinds[number] = Py_NewRef(kind);
    Py_DECREF(kind);
    return number < KINDS ? number : (PyErr_Format(PyExc_ValueError, "%R found, of %d kinds at most", given, KINDS - 1), -1);
}

static PyObject *tenure_kind(PyObject *self, void *Py_UNUSED(none)) {
    return kind_of(self) != NULL ? Py_NewRef(kind_of(self)) : PyErr_Format(PyExc_AttributeError, "kind");
}

static int set_kind(PyObject *self, PyObject *given, void *Py_UNUSED(none)) {
    int number = number_of(given);
    if (number < 0) return -1;
    tenure(self)->kind = number;
    return 0;
}

/* -- the rest as Python has it -- */

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

/* A mark that is given, 0 or 1; -1 with an exception. */
static int mark(PyObject *given) {
    if (given == Py_True || given == Py_False) return given == Py_True;
    PyErr_SetString(PyExc_TypeError, "a mark is expected to be True or False");
    return -1;
}

static PyObject *tenure_process(Tenure *self, void *Py_UNUSED(none)) { return PyBool_FromLong(self->process); }
static PyObject *tenure_shared(Tenure *self, void *Py_UNUSED(none)) { return PyBool_FromLong(self->shared); }

static int set_process(Tenure *self, PyObject *given, void *Py_UNUSED(none)) {
    int is = mark(given);
    if (is >= 0) self->process = is;
    return is < 0 ? -1 : 0;
}

static int set_shared(Tenure *self, PyObject *given, void *Py_UNUSED(none)) {
    int is = mark(given);
    if (is >= 0) self->shared = is;
    return is < 0 ? -1 : 0;
}

static PyGetSetDef tenure_attributes[] = {
    {"acquired_at", (getter)tenure_acquired_at, (setter)set_acquired_at, NULL, NULL},
    {"released_at", (getter)tenure_released_at, (setter)set_released_at, NULL, NULL},
    {"kind", tenure_kind, set_kind, NULL, NULL},
    {"process", (getter)tenure_process, (setter)set_process, NULL, NULL},
    {"shared", (getter)tenure_shared, (setter)set_shared, NULL, NULL},
    {NULL},
};

static PyTypeObject Tenure_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Tenure",
    .tp_doc = "The kind and the times of a handle, in seconds, and what exempts it.",
    .tp_basicsize = sizeof(Tenure),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = tenure_new,
    .tp_getset = tenure_attributes,
};
#endif
