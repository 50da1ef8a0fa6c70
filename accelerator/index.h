/* Tables as Python has them: an Index, which is like a dictionary of numbers that are the identities of things. */
#ifndef INDEX_H
#define INDEX_H

#include "table.h"

static PyTypeObject Index_Type;

static inline int is_index(PyObject *thing) { return Py_IS_TYPE(thing, &Index_Type); }

/* What an index has for a thing, borrowed; NULL where it has nothing. */
static inline PyObject *indexed(PyObject *index, void *thing) { return table_get((Table *)index, thing); }

/* The address that a key stands for; NULL with an exception. */
static void *address_of(PyObject *key) {
    void *address = PyLong_AsVoidPtr(key);
    if (address == NULL && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "0 found, the identity of a thing expected");
    return address;
}

static Py_ssize_t table_length(Table *self) { return self->count; }

static int table_contains(Table *self, PyObject *key) {
    void *address = address_of(key);
    return address == NULL ? -1 : table_place(self, address) >= 0;
}

static PyObject *table_subscript(Table *self, PyObject *key) {
    void *address = address_of(key);
    PyObject *value = address == NULL ? NULL : table_get(self, address);
    if (value == NULL && address != NULL) PyErr_SetObject(PyExc_KeyError, key);
    return Py_XNewRef(value);
}

static int table_assign(Table *self, PyObject *key, PyObject *value) {
    void *address = address_of(key);
    if (address == NULL) return -1;
    if (value != NULL) return table_put(self, address, value);
    PyObject *before = table_pop(self, address);
    if (before == NULL) PyErr_SetObject(PyExc_KeyError, key);
    Py_XDECREF(before);
    return before == NULL ? -1 : 0;
}

/* The address of the first argument, of one or two; NULL with an exception. */
static void *address_given(const char *name, PyObject *const *args, Py_ssize_t count) {
    if (count == 1 || count == 2) return address_of(args[0]);
    PyErr_Format(PyExc_TypeError, "%s: %zd arguments found, 1 or 2 expected", name, count);
    return NULL;
}

static PyObject *table_get_method(Table *self, PyObject *const *args, Py_ssize_t count) {
    void *address = address_given("get", args, count);
    PyObject *value = address == NULL ? NULL : table_get(self, address);
    return address == NULL ? NULL : Py_NewRef(value != NULL ? value : count == 2 ? args[1] : Py_None);
}

static PyObject *table_pop_method(Table *self, PyObject *const *args, Py_ssize_t count) {
    void *address = address_given("pop", args, count);
    PyObject *value = address == NULL ? NULL : table_pop(self, address);
    if (value == NULL && address != NULL && count == 2) return Py_NewRef(args[1]);
    if (value == NULL && address != NULL) PyErr_SetObject(PyExc_KeyError, args[0]);
    return value;
}

static PyObject *table_setdefault(Table *self, PyObject *const *args, Py_ssize_t count) {
    void *address = address_given("setdefault", args, count);
    if (address == NULL) return NULL;
    PyObject *value = table_get(self, address), *missing = count == 2 ? args[1] : Py_None;
    if (value == NULL && table_put(self, address, missing) < 0) return NULL;
    return Py_NewRef(value == NULL ? missing : value);
}

static PyObject *table_clear_method(Table *self, PyObject *Py_UNUSED(none)) {
    table_clear(self);
    Py_RETURN_NONE;
}

/* A list of what `of` makes of each entry. */
static PyObject *listed(Table *self, PyObject *(*of)(Table *, Py_ssize_t)) {
    PyObject *list = PyList_New(0);
    for (Py_ssize_t at = self->first; list != NULL && at < self->end; at++) {
        PyObject *one = self->keys[at] == NULL ? NULL : of(self, at);
        if (self->keys[at] == NULL) continue;
        if (one == NULL || PyList_Append(list, one) < 0) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

static PyObject *key_at(Table *self, Py_ssize_t place) { return PyLong_FromVoidPtr(self->keys[place]); }
static PyObject *value_at(Table *self, Py_ssize_t place) { return Py_NewRef(self->values[place]); }

static PyObject *item_at(Table *self, Py_ssize_t place) {
    PyObject *value = value_at(self, place), *key = key_at(self, place), *item = key == NULL ? NULL : PyTuple_Pack(2, key, value);
    Py_XDECREF(key);
    Py_DECREF(value);
    return item;
}

static PyObject *table_values(Table *self, PyObject *Py_UNUSED(none)) { return listed(self, value_at); }
static PyObject *table_items(Table *self, PyObject *Py_UNUSED(none)) { return listed(self, item_at); }

/* Goes through what is there now. */
static PyObject *table_iter(Table *self) {
    PyObject *keys = listed(self, key_at), *through = keys == NULL ? NULL : PyObject_GetIter(keys);
    Py_XDECREF(keys);
    return through;
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    if (!PyTuple_GET_SIZE(args) && (named == NULL || !PyDict_GET_SIZE(named))) return type->tp_alloc(type, 0);
    PyErr_SetString(PyExc_TypeError, "no arguments are expected");
    return NULL;
}

static int table_traverse(Table *self, visitproc visit, void *arg) {
    for (Py_ssize_t at = self->first; at < self->end; at++) Py_VISIT(self->values[at]);
    return 0;
}

static void table_dealloc(Table *self) {
    PyObject_GC_UnTrack(self);
    table_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef table_methods[] = {
    {"get", (PyCFunction)(void (*)(void))table_get_method, METH_FASTCALL, NULL},
    {"pop", (PyCFunction)(void (*)(void))table_pop_method, METH_FASTCALL, NULL},
    {"setdefault", (PyCFunction)(void (*)(void))table_setdefault, METH_FASTCALL, NULL},
    {"values", (PyCFunction)table_values, METH_NOARGS, NULL},
    {"items", (PyCFunction)table_items, METH_NOARGS, NULL},
    {"clear", (PyCFunction)table_clear_method, METH_NOARGS, NULL},
    {NULL},
};

static PyMappingMethods table_mapping = {(lenfunc)table_length, (binaryfunc)table_subscript, (objobjargproc)table_assign};
static PySequenceMethods table_sequence = {.sq_contains = (objobjproc)table_contains};

static PyTypeObject Index_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Index",
    .tp_doc = "What belongs to things, by their identity.",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = table_new,
    .tp_traverse = (traverseproc)table_traverse,
    .tp_clear = (inquiry)table_clear,
    .tp_dealloc = (destructor)table_dealloc,
    .tp_as_mapping = &table_mapping,
    .tp_as_sequence = &table_sequence,
    .tp_iter = (getiterfunc)table_iter,
    .tp_methods = table_methods,
};
#endif
