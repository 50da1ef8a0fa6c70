/* Tables as Python has them: a Shelf, which is like a dictionary of handles that has nothing to each of them, and an Index,
   which is like one of numbers that are the identities of things. */
#ifndef SHELF_H
#define SHELF_H

#include "table.h"

static PyTypeObject Shelf_Type, Index_Type;

static inline int is_shelf(PyObject *thing) { return Py_IS_TYPE(thing, &Shelf_Type); }
static inline int is_index(PyObject *thing) { return Py_IS_TYPE(thing, &Index_Type); }

/* The shelf that was expected; NULL with an exception for anything else. */
static inline Table *shelf_in(PyObject *thing) {
    if (thing != NULL && is_shelf(thing)) return (Table *)thing;
    PyErr_Format(PyExc_TypeError, "%s found, a shelf expected", thing == NULL ? "nothing" : Py_TYPE(thing)->tp_name);
    return NULL;
}

/* Put a handle on a shelf; -1 with an exception. */
static inline int shelve(PyObject *thing, PyObject *handle) {
    Table *shelf = shelf_in(thing);
    return shelf == NULL ? -1 : table_put(shelf, handle, handle);
}

/* Take a handle off a shelf: whether it was there; -1 with an exception. */
static inline int unshelve(PyObject *thing, PyObject *handle) {
    Table *shelf = shelf_in(thing);
    PyObject *found = shelf == NULL ? NULL : table_pop(shelf, handle);
    Py_XDECREF(found);
    return shelf == NULL ? -1 : found != NULL;
}

/* What an index has for a thing, borrowed; NULL where it has nothing. */
static inline PyObject *indexed(PyObject *index, void *thing) { return table_get((Table *)index, thing); }

/* -- what both can do -- */

/* The address that a key stands for; NULL with an exception. */
static void *address_of(Table *self, PyObject *key) {
    if (self->by_itself) return key;
    void *address = PyLong_AsVoidPtr(key);
    if (address == NULL && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "0 found, the identity of a thing expected");
    return address;
}

/* What a value is to Python: a handle on a shelf has nothing to it. */
static inline PyObject *told(Table *self, PyObject *value) { return Py_NewRef(self->by_itself ? Py_None : value); }

static PyObject *key_at(Table *self, Py_ssize_t place) {
    return self->by_itself ? Py_NewRef(self->values[place]) : PyLong_FromVoidPtr(self->keys[place]);
}

static Py_ssize_t table_length(Table *self) { return self->count; }

static int table_contains(Table *self, PyObject *key) {
    void *address = address_of(self, key);
    return address == NULL ? -1 : table_place(self, address) >= 0;
}

static PyObject *table_subscript(Table *self, PyObject *key) {
    void *address = address_of(self, key);
    PyObject *value = address == NULL ? NULL : table_get(self, address);
    if (value == NULL && address != NULL) PyErr_SetObject(PyExc_KeyError, key);
    return value == NULL ? NULL : told(self, value);
}

static int table_assign(Table *self, PyObject *key, PyObject *value) {
    void *address = address_of(self, key);
    if (address == NULL) return -1;
    if (value != NULL) return table_put(self, address, self->by_itself ? key : value);
    PyObject *before = table_pop(self, address);
    if (before == NULL) PyErr_SetObject(PyExc_KeyError, key);
    Py_XDECREF(before);
    return before == NULL ? -1 : 0;
}

/* The address of the first argument, of one or two; NULL with an exception. */
static void *address_given(Table *self, const char *name, PyObject *const *args, Py_ssize_t count) {
    if (count == 1 || count == 2) return address_of(self, args[0]);
    PyErr_Format(PyExc_TypeError, "%s: %zd arguments found, 1 or 2 expected", name, count);
    return NULL;
}

static PyObject *table_get_method(Table *self, PyObject *const *args, Py_ssize_t count) {
    void *address = address_given(self, "get", args, count);
    PyObject *value = address == NULL ? NULL : table_get(self, address);
    return address == NULL ? NULL : value != NULL ? told(self, value) : Py_NewRef(count == 2 ? args[1] : Py_None);
}

static PyObject *table_pop_method(Table *self, PyObject *const *args, Py_ssize_t count) {
    void *address = address_given(self, "pop", args, count);
    PyObject *value = address == NULL ? NULL : table_pop(self, address), *result = NULL;
    if (value != NULL) result = told(self, value);
    else if (address != NULL && count == 2) result = Py_NewRef(args[1]);
    else if (address != NULL) PyErr_SetObject(PyExc_KeyError, args[0]);
    Py_XDECREF(value);
    return result;
}

static PyObject *table_setdefault(Table *self, PyObject *const *args, Py_ssize_t count) {
    void *address = address_given(self, "setdefault", args, count);
    if (address == NULL) return NULL;
    PyObject *value = table_get(self, address), *missing = count == 2 ? args[1] : Py_None;
    if (value == NULL && table_put(self, address, self->by_itself ? args[0] : missing) < 0) return NULL;
    return told(self, value == NULL ? missing : value);
}

static PyObject *table_clear_method(Table *self, PyObject *Py_UNUSED(none)) {
    table_clear(self);
    Py_RETURN_NONE;
}

/* -- going through: a shelf one by one, for there may be a million; an index as it is now -- */

typedef struct {
    PyObject_HEAD
    Table *table; /* NULL: it is at its end */
    Py_ssize_t place;
    uint64_t moves;
} Walk;

static PyTypeObject Walk_Type;

static PyObject *table_walk(Table *self) {
    Walk *walk = PyObject_GC_New(Walk, &Walk_Type);
    if (walk == NULL) return NULL;
    walk->table = (Table *)Py_NewRef((PyObject *)self);
    walk->place = self->first;
    walk->moves = self->moves;
    PyObject_GC_Track(walk);
    return (PyObject *)walk;
}

static PyObject *walk_next(Walk *self) {
    Table *table = self->table;
    if (table == NULL) return NULL;
    if (self->moves != table->moves) return PyErr_Format(PyExc_RuntimeError, "changed while it was gone through");
    while (self->place < table->end && table->keys[self->place] == NULL) self->place++;
    if (self->place < table->end) return key_at(table, self->place++);
    Py_CLEAR(self->table);
    return NULL;
}

static int walk_traverse(Walk *self, visitproc visit, void *arg) {
    Py_VISIT(self->table);
    return 0;
}

static void walk_dealloc(Walk *self) {
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->table);
    PyObject_GC_Del(self);
}

static PyTypeObject Walk_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Walk",
    .tp_basicsize = sizeof(Walk),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)walk_next,
    .tp_traverse = (traverseproc)walk_traverse,
    .tp_dealloc = (destructor)walk_dealloc,
};

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

static PyObject *value_at(Table *self, Py_ssize_t place) { return told(self, self->values[place]); }

static PyObject *item_at(Table *self, Py_ssize_t place) {
    PyObject *value = value_at(self, place), *key = key_at(self, place), *item = key == NULL ? NULL : PyTuple_Pack(2, key, value);
    Py_XDECREF(key);
    Py_DECREF(value);
    return item;
}

static PyObject *table_values(Table *self, PyObject *Py_UNUSED(none)) { return listed(self, value_at); }
static PyObject *table_items(Table *self, PyObject *Py_UNUSED(none)) { return listed(self, item_at); }

/* -- the types -- */

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    if (PyTuple_GET_SIZE(args) || (named != NULL && PyDict_GET_SIZE(named))) {
        PyErr_SetString(PyExc_TypeError, "no arguments are expected");
        return NULL;
    }
    Table *self = (Table *)type->tp_alloc(type, 0);
    if (self != NULL) self->by_itself = type == &Shelf_Type;
    return (PyObject *)self;
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

#define TABLE_KIND(name, doc) { \
    PyVarObject_HEAD_INIT(NULL, 0) \
    .tp_name = "crawlo_otel_leaks_accelerator." #name, .tp_doc = doc, .tp_basicsize = sizeof(Table), \
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, .tp_new = table_new, .tp_traverse = (traverseproc)table_traverse, \
    .tp_clear = (inquiry)table_clear, .tp_dealloc = (destructor)table_dealloc, .tp_as_mapping = &table_mapping, \
    .tp_as_sequence = &table_sequence, .tp_iter = (getiterfunc)table_walk, .tp_methods = table_methods, \
}
static PyTypeObject Shelf_Type = TABLE_KIND(Shelf, "Handles, in the order in which they came.");
static PyTypeObject Index_Type = TABLE_KIND(Index, "What belongs to things, by their identity.");
#endif
