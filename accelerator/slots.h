/* Where the slots of a Python class lie, so that they are read and written without a call. */
#ifndef SLOTS_H
#define SLOTS_H

#include <Python.h>
#include <structmember.h>

/* The offset of a slot; -1 with an exception where the class has no such slot. */
static Py_ssize_t slot(PyTypeObject *type, const char *name) {
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (found == NULL) return -1;
    Py_ssize_t offset = -1;
    if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        if (member->type == T_OBJECT_EX) offset = member->offset;
    }
    Py_DECREF(found);
    if (offset < 0) PyErr_Format(PyExc_TypeError, "%s.%s is no slot, as was expected", type->tp_name, name);
    return offset;
}

static inline PyObject **place_of(PyObject *object, Py_ssize_t offset) {
    return (PyObject **)((char *)object + offset);
}

/* Borrowed; NULL where the slot was never filled. */
static inline PyObject *get(PyObject *object, Py_ssize_t offset) { return *place_of(object, offset); }

/* Takes the reference. */
static inline void put(PyObject *object, Py_ssize_t offset, PyObject *value) {
    PyObject **place = place_of(object, offset);
    PyObject *before = *place;
    *place = value;
    Py_XDECREF(before);
}
#endif
