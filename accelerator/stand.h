/* What stands in front of a function, and tells what it returned: in all else it shows itself as the function. */
#ifndef STAND_H
#define STAND_H

#include <Python.h>
#include "swift.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *wrapped;
    PyObject *live;     /* a list; empty: the call goes straight through */
    PyObject *note;     /* is called with what was returned, and raises nothing */
    PyObject *refused;  /* is called with an error, here an OSError that is about to leave, and raises nothing */
    PyObject *long_way; /* stands for `wrapped` as wrapt's wrappers do, in calls that are not plain */
    Py_ssize_t most;    /* positional arguments of a plain call */
    PyObject *keyword;  /* which a plain call does not have */
    PyObject *place;    /* "module:path", where it is found again once it was pickled */
} Stand;

static PyObject *wrapped_name, *class_name;

static int is_plain(Stand *self, Py_ssize_t count, PyObject *keywords) {
    if (count > self->most) return 0;
    if (keywords == NULL) return 1;
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(keywords); at++) {
        int differs = PyUnicode_Compare(PyTuple_GET_ITEM(keywords, at), self->keyword);
        if (differs == 0 || PyErr_Occurred()) return 0;
    }
    return 1;
}

static PyObject *go_long_way(Stand *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *positional = PyTuple_New(count), *named = PyDict_New(), *result = NULL;
    if (positional == NULL || named == NULL) goto done;
    for (Py_ssize_t at = 0; at < count; at++) PyTuple_SET_ITEM(positional, at, Py_NewRef(args[at]));
    for (Py_ssize_t at = 0; keywords != NULL && at < PyTuple_GET_SIZE(keywords); at++)
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(keywords, at), args[count + at]) < 0) goto done;
    result = PyObject_CallFunctionObjArgs(self->long_way, self->wrapped, Py_None, positional, named, NULL);
done:
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

/* Have the error that is set told of; the same one is set afterwards. */
static void tell_refused(Stand *self) {
    PyObject *error = caught(), *done = PyObject_CallOneArg(self->refused, error);
    if (done == NULL) PyErr_WriteUnraisable(self->refused);
    Py_XDECREF(done);
    set_again(error);
}

/* Whether a method's stand is to note anything, rather than that all goes straight through; it has whom it is called of. */
static inline int is_live(Stand *self, size_t flags) { return PyList_GET_SIZE(self->live) && PyVectorcall_NARGS(flags); }

/* Where it stands in a class, it binds as methods do. */
static PyObject *stand_bound(PyObject *self, PyObject *thing, PyObject *Py_UNUSED(type)) {
    return thing == NULL || thing == Py_None ? Py_NewRef(self) : PyMethod_New(self, thing);
}

/* Call what it stands for: a function of Python's without the way to it. */
static inline PyObject *straight(Stand *self, PyObject *const *args, size_t flags, PyObject *keywords) {
    PyObject *wrapped = self->wrapped;
    if (PyFunction_Check(wrapped)) return ((PyFunctionObject *)wrapped)->vectorcall(wrapped, args, flags, keywords);
    return PyObject_Vectorcall(wrapped, args, flags, keywords);
}

static PyObject *stand_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Stand *self = (Stand *)callable;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (PyList_GET_SIZE(self->live) == 0) return straight(self, args, flags, keywords);
    if (!is_plain(self, count, keywords)) return PyErr_Occurred() ? NULL : go_long_way(self, args, count, keywords);
    PyObject *result = straight(self, args, flags, keywords);
    if (result == NULL) {
        if (PyErr_ExceptionMatches(PyExc_OSError)) tell_refused(self);
        return NULL;
    }
    PyObject *done = PyObject_CallOneArg(self->note, result);
    if (done == NULL) PyErr_WriteUnraisable(self->note);
    Py_XDECREF(done);
    return result;
}

/* What every stand has; the rest is NULL. */
static void begin_stand(Stand *self, vectorcallfunc call, PyObject *wrapped, PyObject *live, PyObject *refused, PyObject *place) {
    self->vectorcall = call;
    self->wrapped = Py_NewRef(wrapped);
    self->live = Py_NewRef(live);
    self->refused = Py_NewRef(refused);
    self->place = Py_NewRef(place);
}

/* "module:path" of a method, where it is found again once it was pickled. */
static PyObject *place_in_module(PyObject *wrapped) {
    PyObject *module = PyObject_GetAttrString(wrapped, "__module__"), *path = PyObject_GetAttrString(wrapped, "__qualname__");
    PyObject *place = module == NULL || path == NULL ? NULL : PyUnicode_FromFormat("%S:%S", module, path);
    Py_XDECREF(module);
    Py_XDECREF(path);
    return place;
}

static PyObject *stand_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"wrapped", "live", "note", "refused", "long_way", "most", "keyword", "place", NULL};
    PyObject *wrapped, *live, *note, *refused, *long_way, *keyword, *place;
    Py_ssize_t most;
    if (!PyArg_ParseTupleAndKeywords(args, named, "OO!OOOnUU", names, &wrapped, &PyList_Type, &live, &note, &refused,
                                     &long_way, &most, &keyword, &place))
        return NULL;
    Stand *self = (Stand *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    begin_stand(self, stand_call, wrapped, live, refused, place);
    self->note = Py_NewRef(note);
    self->long_way = Py_NewRef(long_way);
    self->most = most;
    self->keyword = Py_NewRef(keyword);
    return (PyObject *)self;
}

static int stand_traverse(Stand *self, visitproc visit, void *arg) {
    Py_VISIT(self->wrapped);
    Py_VISIT(self->live);
    Py_VISIT(self->note);
    Py_VISIT(self->refused);
    Py_VISIT(self->long_way);
    return 0;
}

static void end_stand(Stand *self) {
    Py_XDECREF(self->wrapped);
    Py_XDECREF(self->live);
    Py_XDECREF(self->note);
    Py_XDECREF(self->refused);
    Py_XDECREF(self->long_way);
    Py_XDECREF(self->keyword);
    Py_XDECREF(self->place);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* The collector need not clear it: what could refer back to it are lists and functions, which it clears. */
static void stand_dealloc(Stand *self) {
    PyObject_GC_UnTrack(self);
    end_stand(self);
}

static int is_name(PyObject *name, PyObject *expected) { return name == expected || (PyUnicode_Check(name) && PyUnicode_Compare(name, expected) == 0); }

static PyObject *stand_copy(PyObject *self, PyObject *Py_UNUSED(memo)) { return Py_NewRef(self); }

static PyObject *stand_reduce(Stand *self, PyObject *Py_UNUSED(protocol)) {
    PyObject *module = PyImport_ImportModule("pkgutil");
    PyObject *resolve = module == NULL ? NULL : PyObject_GetAttrString(module, "resolve_name");
    Py_XDECREF(module);
    return resolve == NULL ? NULL : Py_BuildValue("N(O)", resolve, self->place);
}

/* What it has itself; all else is the function's. */
static PyMethodDef stand_methods[] = {
    {"__copy__", (PyCFunction)stand_copy, METH_NOARGS, NULL},
    {"__deepcopy__", (PyCFunction)stand_copy, METH_O, NULL},
    {"__reduce_ex__", (PyCFunction)stand_reduce, METH_O, NULL},
    {NULL},
};

static int is_own(PyObject *self, PyObject *name) {
    if (PyUnicode_CompareWithASCIIString(name, "__call__") == 0) return 1; /* or whoever calls by that name goes past it */
    if (PyUnicode_CompareWithASCIIString(name, "__get__") == 0) return Py_TYPE(self)->tp_descr_get != NULL;
    for (PyMethodDef *method = stand_methods; method->ml_name != NULL; method++)
        if (PyUnicode_CompareWithASCIIString(name, method->ml_name) == 0) return 1;
    return 0;
}

static PyObject *stand_get(PyObject *self, PyObject *name) {
    PyObject *wrapped = ((Stand *)self)->wrapped;
    if (is_name(name, wrapped_name)) return Py_NewRef(wrapped);
    if (is_name(name, class_name)) return Py_NewRef((PyObject *)Py_TYPE(wrapped));
    if (PyUnicode_Check(name) && is_own(self, name)) return PyObject_GenericGetAttr(self, name);
    return PyObject_GetAttr(wrapped, name);
}

static int stand_set(PyObject *self, PyObject *name, PyObject *value) { return PyObject_SetAttr(((Stand *)self)->wrapped, name, value); }

static PyObject *stand_repr(PyObject *self) { return PyObject_Repr(((Stand *)self)->wrapped); }

static Py_hash_t stand_hash(PyObject *self) { return PyObject_Hash(((Stand *)self)->wrapped); }

static PyTypeObject Stand_Type;

static PyObject *stand_compare(PyObject *self, PyObject *other, int operation) {
    if (PyObject_TypeCheck(other, &Stand_Type)) other = ((Stand *)other)->wrapped;
    return PyObject_RichCompare(((Stand *)self)->wrapped, other, operation);
}

static PyTypeObject Stand_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Stand",
    .tp_doc = "Stands in front of a function and tells what it returned.",
    .tp_basicsize = sizeof(Stand),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Stand, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = stand_new,
    .tp_traverse = (traverseproc)stand_traverse,
    .tp_dealloc = (destructor)stand_dealloc,
    .tp_getattro = stand_get,
    .tp_methods = stand_methods,
    .tp_setattro = stand_set,
    .tp_repr = stand_repr,
    .tp_str = stand_repr,
    .tp_hash = stand_hash,
    .tp_richcompare = stand_compare,
};

/* A kind of stand that binds as methods do: `Kind` begins with a Stand, `kind_traverse` and `kind_dealloc` are its own. */
#define STAND_KIND(Kind, kind, new, flags, text) { \
    PyVarObject_HEAD_INIT(NULL, 0) \
    .tp_name = "crawlo_otel_leaks_accelerator." #Kind, \
    .tp_doc = text, \
    .tp_basicsize = sizeof(Kind), \
    .tp_base = &Stand_Type, \
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR | (flags), \
    .tp_vectorcall_offset = offsetof(Stand, vectorcall), \
    .tp_call = PyVectorcall_Call, \
    .tp_new = new, \
    .tp_traverse = (traverseproc)kind##_traverse, \
    .tp_dealloc = (destructor)kind##_dealloc, \
    .tp_descr_get = stand_bound, \
}
#endif
