/* Where the slots of a Python class lie, so that they are read and written without a call. */
#ifndef SLOTS_H
#define SLOTS_H

#include <Python.h>
#include <structmember.h>

/* The offset of what is an object in memory too, of a member of one type or the other; -1 where it is none, or with an
   exception where there is no such name. */
static Py_ssize_t member_of(PyTypeObject *type, const char *name, int one, int other) {
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (found == NULL) return -1;
    PyMemberDef *here = Py_IS_TYPE(found, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)found)->d_member : NULL;
    Py_ssize_t offset = here != NULL && (here->type == one || here->type == other) ? here->offset : -1;
    Py_DECREF(found);
    return offset;
}

static Py_ssize_t member(PyTypeObject *type, const char *name) { return member_of(type, name, T_OBJECT_EX, T_OBJECT); }

/* The offset of a slot; -1 with an exception where the class has no such slot. */
static Py_ssize_t slot(PyTypeObject *type, const char *name) {
    Py_ssize_t offset = member_of(type, name, T_OBJECT_EX, T_OBJECT_EX);
    if (offset < 0 && PyErr_Occurred()) return -1;
    if (offset < 0) PyErr_Format(PyExc_TypeError, "%s.%s is no slot, as was expected", type->tp_name, name);
    return offset;
}

static inline PyObject **place_of(PyObject *object, Py_ssize_t offset) {
    return (PyObject **)((char *)object + offset);
}

/* Borrowed; NULL where the slot was never filled. */
static inline PyObject *get(PyObject *object, Py_ssize_t offset) { return *place_of(object, offset); }

/* Give a tuple items, for each of which there is what it had there before: only where nobody else has the tuple. */
static inline void exchange(PyObject *tuple, PyObject **items) {
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(tuple); at++) {
        PyObject *before = PyTuple_GET_ITEM(tuple, at);
        PyTuple_SET_ITEM(tuple, at, items[at]);
        items[at] = before;
    }
}

/* Where objects of just this type have an attribute; -1: it does not lie in memory. */
typedef struct {
    PyTypeObject *type;
    Py_ssize_t offset;
} Inside;

/* An attribute, the caller's reference, that may lie in memory at an offset. */
static inline PyObject *attribute_in(Py_ssize_t offset, PyObject *thing, PyObject *name) {
    PyObject *found = offset < 0 ? NULL : get(thing, offset);
    return found != NULL ? Py_NewRef(found) : PyObject_GetAttr(thing, name);
}

/* The same of an object whose type, which is kept, is looked at when it is not that of the last one. */
static PyObject *attribute_of(Inside *known, PyObject *thing, PyObject *name) {
    if (known->type != Py_TYPE(thing)) {
        PyTypeObject *before = known->type;
        *known = (Inside){(PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(thing)), member(Py_TYPE(thing), PyUnicode_AsUTF8(name))};
        PyErr_Clear(); /* there is no such name in the class: then each object has it, or not */
        Py_XDECREF(before);
    }
    return attribute_in(known->offset, thing, name);
}

/* Takes the reference. */
static inline void put(PyObject *object, Py_ssize_t offset, PyObject *value) {
    PyObject **place = place_of(object, offset);
    PyObject *before = *place;
    *place = value;
    Py_XDECREF(before);
}
#endif
