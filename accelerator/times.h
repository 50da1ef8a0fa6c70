/* How long things took, in seconds: kept as they are until somebody takes all of them at once, and counts them. */
#ifndef TIMES_H
#define TIMES_H

#include <Python.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    double *values;
    Py_ssize_t count, size, most, oldest; /* most that are kept; where the oldest is, once newer ones take its place */
} Times;

static PyTypeObject Times_Type, Batch_Type;

static inline int is_times(PyObject *thing) { return Py_IS_TYPE(thing, &Times_Type); }

static int times_grow(Times *self) {
    Py_ssize_t size = self->size ? 4 * self->size : 64;
    if (size > self->most) size = self->most;
    double *values = PyMem_Realloc(self->values, size * sizeof(double));
    if (values == NULL) return PyErr_NoMemory(), -1;
    self->values = values;
    self->size = size;
    return 0;
}

/* Keep one more, in place of the oldest where there are as many as are kept; -1 with an exception. */
static inline int times_keep(Times *self, double value) {
    if (self->count == self->most) {
        self->values[self->oldest] = value;
        self->oldest = (self->oldest + 1) % self->most;
        return 0;
    }
    if (self->count == self->size && times_grow(self) < 0) return -1;
    self->values[self->count++] = value;
    return 0;
}

static PyObject *times_append(Times *self, PyObject *given) {
    double value = PyFloat_AsDouble(given);
    if ((value == -1 && PyErr_Occurred()) || times_keep(self, value) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *times_clear(Times *self, PyObject *Py_UNUSED(none)) {
    self->count = self->oldest = 0;
    Py_RETURN_NONE;
}

static Py_ssize_t times_length(Times *self) { return self->count; }

static PyObject *times_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"most", NULL};
    Py_ssize_t most;
    if (!PyArg_ParseTupleAndKeywords(args, named, "n", names, &most)) return NULL;
    if (most < 1) return PyErr_Format(PyExc_ValueError, "most: %zd found, 1 or more expected", most);
    Times *self = (Times *)type->tp_alloc(type, 0);
    if (self != NULL) self->most = most;
    return (PyObject *)self;
}

/* What is taken is no longer there. */
static PyObject *times_take(Times *self, PyObject *Py_UNUSED(none)) {
    Times *batch = (Times *)Batch_Type.tp_alloc(&Batch_Type, 0);
    if (batch == NULL) return NULL;
    batch->values = self->values;
    batch->count = self->count;
    batch->size = self->size;
    batch->most = self->most;
    self->values = NULL;
    self->count = self->size = self->oldest = 0;
    return (PyObject *)batch;
}

static void times_dealloc(Times *self) {
    PyMem_Free(self->values);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *batch_pop(Times *self, PyObject *Py_UNUSED(none)) {
    if (self->count) return PyFloat_FromDouble(self->values[--self->count]);
    PyErr_SetString(PyExc_IndexError, "none is left");
    return NULL;
}

/* In the order in which they came, but for more than are kept. */
static PyObject *batch_values(Times *self, PyObject *Py_UNUSED(none)) {
    PyObject *list = PyList_New(self->count);
    for (Py_ssize_t at = 0; list != NULL && at < self->count; at++) {
        PyObject *value = PyFloat_FromDouble(self->values[at]);
        if (value == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, at, value);
    }
    return list;
}

/* Boundaries of a histogram, at most. */
#define BOUNDARIES_MOST 1024

static Py_ssize_t boundaries_in(PyObject *given, double *boundaries) {
    PyObject *all = PySequence_Fast(given, "a sequence of boundaries is expected");
    if (all == NULL) return -1;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(all);
    if (count > BOUNDARIES_MOST) PyErr_Format(PyExc_ValueError, "%zd boundaries found, %d at most expected", count, BOUNDARIES_MOST);
    for (Py_ssize_t at = 0; at < count && !PyErr_Occurred(); at++) boundaries[at] = PyFloat_AsDouble(PySequence_Fast_GET_ITEM(all, at));
    Py_DECREF(all);
    return PyErr_Occurred() ? -1 : count;
}

static PyObject *numbers(const Py_ssize_t *counts, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    for (Py_ssize_t at = 0; list != NULL && at < count; at++) {
        PyObject *number = PyLong_FromSsize_t(counts[at]);
        if (number == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, at, number);
    }
    return list;
}

/* How many there are up to each boundary and above the one before, and above the last: as histograms count. */
static PyObject *batch_counts(Times *self, PyObject *given) {
    double boundaries[BOUNDARIES_MOST];
    Py_ssize_t counts[BOUNDARIES_MOST + 1] = {0}, many = boundaries_in(given, boundaries);
    if (many < 0) return NULL;
    for (Py_ssize_t at = 0; at < self->count; at++) {
        Py_ssize_t bucket = 0;
        while (bucket < many && self->values[at] > boundaries[bucket]) bucket++;
        counts[bucket]++;
    }
    return numbers(counts, many + 1);
}

/* Their sum, the least and the greatest of them. */
static PyObject *batch_sums(Times *self, PyObject *Py_UNUSED(none)) {
    if (self->count == 0) return PyErr_Format(PyExc_ValueError, "none is left");
    double sum = 0, least = self->values[0], greatest = self->values[0];
    for (Py_ssize_t at = 0; at < self->count; at++) {
        double value = self->values[at];
        sum += value;
        if (value < least) least = value;
        if (value > greatest) greatest = value;
    }
    return Py_BuildValue("ddd", sum, least, greatest);
}

static PySequenceMethods times_sequence = {.sq_length = (lenfunc)times_length};

static PyMethodDef times_methods[] = {
    {"append", (PyCFunction)times_append, METH_O, NULL},
    {"take", (PyCFunction)times_take, METH_NOARGS, NULL},
    {"clear", (PyCFunction)times_clear, METH_NOARGS, NULL},
    {NULL},
};

static PyMethodDef batch_methods[] = {
    {"pop", (PyCFunction)batch_pop, METH_NOARGS, NULL},
    {"values", (PyCFunction)batch_values, METH_NOARGS, NULL},
    {"counts", (PyCFunction)batch_counts, METH_O, NULL},
    {"sums", (PyCFunction)batch_sums, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject Times_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Times",
    .tp_doc = "The last so many of what things took, in seconds.",
    .tp_basicsize = sizeof(Times),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = times_new,
    .tp_dealloc = (destructor)times_dealloc,
    .tp_as_sequence = &times_sequence,
    .tp_methods = times_methods,
};

static PyTypeObject Batch_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Batch",
    .tp_doc = "What was taken out of a Times.",
    .tp_basicsize = sizeof(Times),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)times_dealloc,
    .tp_as_sequence = &times_sequence,
    .tp_methods = batch_methods,
};
#endif
