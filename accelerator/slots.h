/* Where the slots of a Python class lie, so that they are read and written without a call. */
#ifndef SLOTS_H
#define SLOTS_H

#include <Python.h>
#include <structmember.h>

/* The offset of what is an object in memory too; -1 where it is none, or with an exception where there is no such name. */
static Py_ssize_t member(PyTypeObject *type, const char *name) {
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (found == NULL) return -1;
    PyMemberDef *here = Py_IS_TYPE(found, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)found)->d_member : NULL;
    Py_ssize_t offset = here != NULL && (here->type == T_OBJECT_EX || here->type == T_OBJECT) ? here->offset : -1;
    Py_DECREF(found);
    return offset;
}

/* The offset of a slot; -1 with an exception where the class has no such slot. */
static Py_ssize_t slot(PyTypeObject *type, const char *name) {
    Py_ssize_t offset = member(type, name);
    if (offset < 0 && PyErr_Occurred()) return -1;
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
