/* A Shelf, which is like a dictionary of handles, in the order in which they came, that has nothing to each of them. A handle
   knows itself where it lies, so that nothing is looked for; it lies on one shelf of each sort at most. */
#ifndef SHELF_H
#define SHELF_H

#include "tenure.h"

/* Places of the smallest one. */
#define PLACES_LEAST 8

typedef struct {
    PyObject_HEAD
    int sort;
    PyObject **handles; /* owned; NULL: what was there is taken off */
    Py_ssize_t first, end, size, count; /* the first one's place, that behind the last; room; how many there are */
    uint64_t moves; /* how often places have changed */
} Shelf;

static PyTypeObject Shelf_Type;

static inline int is_shelf(PyObject *thing) { return Py_IS_TYPE(thing, &Shelf_Type); }

/* The place of a handle on this shelf; -1 where it has none. */
static inline Py_ssize_t place_of_handle(const Shelf *self, PyObject *handle) {
    Py_ssize_t place = lies_at(handle, self->sort);
    return place < self->end && place >= 0 && self->handles[place] == handle ? place : -1;
}

/* The same of what may be none. */
static inline Py_ssize_t place_on(const Shelf *self, PyObject *thing) { return is_tenure(thing) ? place_of_handle(self, thing) : -1; }

/* Have room for so many, with no gaps between; -1, and all as it was, where memory is out. */
static int make_room(Shelf *self, Py_ssize_t size) {
    PyObject **handles = size > PLACES_MOST ? NULL : PyMem_Malloc(size * sizeof(PyObject *));
    Py_ssize_t to = 0;
    if (handles == NULL) return -1;
    for (Py_ssize_t at = self->first; at < self->end; at++) {
        if (self->handles[at] == NULL) continue;
        lay_at(self->handles[at], self->sort, to);
        handles[to++] = self->handles[at];
    }
    PyMem_Free(self->handles);
    self->handles = handles;
    self->first = 0;
    self->end = to;
    self->size = size;
    self->moves++;
    return 0;
}

/* Lay a handle on a shelf, where it may lie already; -1 with an exception. */
static inline int lay_down(Shelf *self, PyObject *handle) {
    if (lies_at(handle, self->sort) >= 0) {
        if (place_of_handle(self, handle) >= 0) return 0;
        return PyErr_Format(PyExc_ValueError, "a handle that lies on another shelf of the same sort found"), -1;
    }
    if (self->end == self->size && make_room(self, self->count < PLACES_LEAST ? PLACES_LEAST : 2 * self->count) < 0) return PyErr_NoMemory(), -1;
    lay_at(handle, self->sort, self->end);
    self->handles[self->end++] = Py_NewRef(handle);
    self->count++;
    return 0;
}

/* The same of what may be no handle. */
static inline int lay_on(Shelf *self, PyObject *thing) {
    if (is_tenure(thing)) return lay_down(self, thing);
    return PyErr_Format(PyExc_TypeError, "%s found, a handle expected", Py_TYPE(thing)->tp_name), -1;
}

/* Take a handle off: whether it was there. Who calls it has a reference to it. */
static inline int pick_up(Shelf *self, PyObject *handle) {
    Py_ssize_t place = place_of_handle(self, handle);
    if (place < 0) return 0;
    lay_at(handle, self->sort, -1);
    self->handles[place] = NULL;
    self->count--;
    if (self->count == 0) {
        self->first = self->end = 0;
    } else {
        while (self->handles[self->end - 1] == NULL) self->end--;
        while (self->handles[self->first] == NULL) self->first++;
    }
    if (self->size > 64 && self->count < self->size / 8) (void)make_room(self, 2 * self->count + PLACES_LEAST); /* a burst is over */
    Py_DECREF(handle);
    return 1;
}

/* The same of what may be no handle. */
static inline int take_off(Shelf *self, PyObject *thing) { return is_tenure(thing) && pick_up(self, thing); }

/* Take all off: what runs as they go may come back here, and finds nothing. */
static int clear_off(Shelf *self) {
    Shelf before = *self;
    self->handles = NULL;
    self->first = self->end = self->size = self->count = 0;
    self->moves++;
    for (Py_ssize_t at = before.first; at < before.end; at++)
        if (before.handles[at] != NULL) lay_at(before.handles[at], self->sort, -1);
    for (Py_ssize_t at = before.first; at < before.end; at++) Py_XDECREF(before.handles[at]);
    PyMem_Free(before.handles);
    return 0;
}

/* The shelf that was expected; NULL with an exception for anything else. */
static inline Shelf *shelf_in(PyObject *thing) {
    if (thing != NULL && is_shelf(thing)) return (Shelf *)thing;
    PyErr_Format(PyExc_TypeError, "%s found, a shelf expected", thing == NULL ? "nothing" : Py_TYPE(thing)->tp_name);
    return NULL;
}

/* Lay a handle on what should be a shelf; -1 with an exception. */
static inline int shelve(PyObject *thing, PyObject *handle) {
    Shelf *shelf = shelf_in(thing);
    return shelf == NULL ? -1 : lay_on(shelf, handle);
}

/* Take a handle off what should be a shelf: whether it was there; -1 with an exception. */
static inline int unshelve(PyObject *thing, PyObject *handle) {
    Shelf *shelf = shelf_in(thing);
    return shelf == NULL ? -1 : take_off(shelf, handle);
}

/* -- as Python has it -- */

static Py_ssize_t shelf_length(Shelf *self) { return self->count; }
static int shelf_contains(Shelf *self, PyObject *thing) { return place_on(self, thing) >= 0; }

static PyObject *shelf_subscript(Shelf *self, PyObject *thing) {
    if (place_on(self, thing) >= 0) Py_RETURN_NONE;
    PyErr_SetObject(PyExc_KeyError, thing);
    return NULL;
}

static int shelf_assign(Shelf *self, PyObject *thing, PyObject *value) {
    if (value != NULL) return lay_on(self, thing);
    if (take_off(self, thing)) return 0;
    PyErr_SetObject(PyExc_KeyError, thing);
    return -1;
}

static PyObject *shelf_pop(Shelf *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 1 && count != 2) return PyErr_Format(PyExc_TypeError, "pop: %zd arguments found, 1 or 2 expected", count);
    if (take_off(self, args[0])) Py_RETURN_NONE;
    if (count == 2) return Py_NewRef(args[1]);
    PyErr_SetObject(PyExc_KeyError, args[0]);
    return NULL;
}

static PyObject *shelf_clear(Shelf *self, PyObject *Py_UNUSED(none)) {
    clear_off(self);
    Py_RETURN_NONE;
}

/* Goes through a shelf one by one, for there may be a million. */
typedef struct {
    PyObject_HEAD
    Shelf *shelf; /* NULL: it is at its end */
    Py_ssize_t place;
    uint64_t moves;
} Walk;

static PyTypeObject Walk_Type;

static PyObject *shelf_walk(Shelf *self) {
    Walk *walk = PyObject_GC_New(Walk, &Walk_Type);
    if (walk == NULL) return NULL;
    walk->shelf = (Shelf *)Py_NewRef((PyObject *)self);
    walk->place = self->first;
    walk->moves = self->moves;
    PyObject_GC_Track(walk);
    return (PyObject *)walk;
}

static PyObject *walk_next(Walk *self) {
    Shelf *shelf = self->shelf;
    if (shelf == NULL) return NULL;
    if (self->moves != shelf->moves) return PyErr_Format(PyExc_RuntimeError, "changed while it was gone through");
    while (self->place < shelf->end && shelf->handles[self->place] == NULL) self->place++;
    if (self->place < shelf->end) return Py_NewRef(shelf->handles[self->place++]);
    Py_CLEAR(self->shelf);
    return NULL;
}

static int walk_traverse(Walk *self, visitproc visit, void *arg) {
    Py_VISIT(self->shelf);
    return 0;
}

static void walk_dealloc(Walk *self) {
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->shelf);
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

static PyObject *shelf_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    int sort = 0;
    static char *names[] = {"sort", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "|i", names, &sort)) return NULL;
    if (sort < 0 || sort >= SORTS) return PyErr_Format(PyExc_ValueError, "sort %d found, 0 to %d expected", sort, SORTS - 1);
    Shelf *self = (Shelf *)type->tp_alloc(type, 0);
    if (self != NULL) self->sort = sort;
    return (PyObject *)self;
}

static int shelf_traverse(Shelf *self, visitproc visit, void *arg) {
    for (Py_ssize_t at = self->first; at < self->end; at++) Py_VISIT(self->handles[at]);
    return 0;
}

static void shelf_dealloc(Shelf *self) {
    PyObject_GC_UnTrack(self);
    clear_off(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef shelf_methods[] = {
    {"pop", (PyCFunction)(void (*)(void))shelf_pop, METH_FASTCALL, NULL},
    {"clear", (PyCFunction)shelf_clear, METH_NOARGS, NULL},
    {NULL},
};

static PyMappingMethods shelf_mapping = {(lenfunc)shelf_length, (binaryfunc)shelf_subscript, (objobjargproc)shelf_assign};
static PySequenceMethods shelf_sequence = {.sq_contains = (objobjproc)shelf_contains};

static PyTypeObject Shelf_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Shelf",
    .tp_doc = "Handles, in the order in which they came. Each lies on one shelf of a sort, 0 or 1, at most.",
    .tp_basicsize = sizeof(Shelf),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = shelf_new,
    .tp_traverse = (traverseproc)shelf_traverse,
    .tp_clear = (inquiry)clear_off,
    .tp_dealloc = (destructor)shelf_dealloc,
    .tp_as_mapping = &shelf_mapping,
    .tp_as_sequence = &shelf_sequence,
    .tp_iter = (getiterfunc)shelf_walk,
    .tp_methods = shelf_methods,
};
#endif
