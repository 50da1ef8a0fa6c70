/* Where the slots of a Python class lie, so that they are read and written without a call. */
#ifndef SLOTS_H
#define SLOTS_H

#include <Python.h>
#include <structmember.h>

#if PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x030E0000
#define INNER_VALUES 1
#define Py_BUILD_CORE 1
#include <internal/pycore_dict.h>
#include <internal/pycore_object.h>
#undef Py_BUILD_CORE
#endif

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

/* Where objects of just this type have an attribute: in a slot, or among an instance's values; -1: not there. */
typedef struct {
    PyTypeObject *type;
    Py_ssize_t offset, value;
    unsigned int version; /* of the type: another one's instances may find something else first */
} Inside;

#ifdef INNER_VALUES

/* The place of an attribute among the values of a type's instances; -1 where one is not simply read. */
static Py_ssize_t place_among_values(PyTypeObject *type, PyObject *name) {
    if (!PyType_HasFeature(type, Py_TPFLAGS_INLINE_VALUES) || type->tp_getattro != PyObject_GenericGetAttr) return -1;
    if (_PyType_Lookup(type, name) != NULL || type->tp_version_tag == 0) return -1;
    PyDictKeysObject *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;
    for (Py_ssize_t at = 0; at < keys->dk_nentries; at++)
        if (DK_UNICODE_ENTRIES(keys)[at].me_key == name) return at;
    return -1;
}

/* Borrowed; NULL where it is to be asked for. */
static inline PyObject *among_values(Inside *known, PyObject *thing) {
    if (known->value < 0 || known->version != known->type->tp_version_tag) return NULL;
    PyDictValues *values = _PyObject_InlineValues(thing);
    return values->valid ? values->values[known->value] : NULL;
}

#else
static inline Py_ssize_t place_among_values(PyTypeObject *Py_UNUSED(type), PyObject *Py_UNUSED(name)) { return -1; }
static inline PyObject *among_values(Inside *Py_UNUSED(known), PyObject *Py_UNUSED(thing)) { return NULL; }
#endif

/* Look at a type that is not the last one. */
static void look_inside(Inside *known, PyTypeObject *type, PyObject *name) {
    PyTypeObject *before = known->type;
    int named = PyUnicode_Check(name);
    Py_ssize_t offset = named ? member(type, PyUnicode_AsUTF8(name)) : -1;
    PyErr_Clear(); /* there is no such name in the class: then each object has it, or not */
    Py_ssize_t value = named && offset < 0 ? place_among_values(type, name) : -1;
    *known = (Inside){(PyTypeObject *)Py_NewRef((PyObject *)type), offset, value, type->tp_version_tag};
    Py_XDECREF(before);
}

/* An attribute, the caller's reference, of an object whose type, which is kept, is looked at when it is not the last one. */
static PyObject *attribute_of(Inside *known, PyObject *thing, PyObject *name) {
    if (known->type != Py_TYPE(thing)) look_inside(known, Py_TYPE(thing), name);
    PyObject *found = known->offset >= 0 ? get(thing, known->offset) : among_values(known, thing);
    return found != NULL ? Py_NewRef(found) : PyObject_GetAttr(thing, name);
}

/* Takes the reference. */
static inline void put(PyObject *object, Py_ssize_t offset, PyObject *value) {
    PyObject **place = place_of(object, offset);
    PyObject *before = *place;
    *place = value;
    Py_XDECREF(before);
}
#endif
