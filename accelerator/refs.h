/* A weak reference that tells whose it was, as that of Python, but for what a number and a slot of its own would weigh. */
#ifndef REFS_H
#define REFS_H

#include <Python.h>

static PyTypeObject Ref_Type;

/* An identity is kept where any other reference keeps its hash: nobody asks one of ours for that. */
static inline Py_hash_t *identity_in(PyObject *reference) { return &((PyWeakReference *)reference)->hash; }

/* A new reference that calls `told` once its thing is gone, with the thing's identity for its key. */
static inline PyObject *reference_made(PyObject *thing, PyObject *told) {
    PyObject *made = PyObject_CallFunctionObjArgs((PyObject *)&Ref_Type, thing, told, NULL);
    if (made != NULL) *identity_in(made) = (Py_hash_t)thing;
    return made;
}

static PyObject *ref_key(PyObject *self, void *Py_UNUSED(none)) { return PyLong_FromVoidPtr((void *)*identity_in(self)); }

static int ref_set_key(PyObject *self, PyObject *key, void *Py_UNUSED(none)) {
    void *identity = key == NULL ? NULL : PyLong_AsVoidPtr(key);
    if (key == NULL) PyErr_SetString(PyExc_TypeError, "a key cannot be deleted");
    if (PyErr_Occurred()) return -1;
    *identity_in(self) = (Py_hash_t)identity;
    return 0;
}

static PyGetSetDef ref_attributes[] = {
    {"key", ref_key, ref_set_key, NULL, NULL},
    {NULL},
};

static PyTypeObject Ref_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Ref",
    .tp_doc = "A weak reference that tells whose it was.",
    .tp_basicsize = sizeof(PyWeakReference),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_getset = ref_attributes,
    .tp_hash = PyObject_HashNotImplemented,
};
#endif
