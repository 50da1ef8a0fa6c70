/* What CPython's releases call by different names. */
#ifndef VERSIONS_H
#define VERSIONS_H

#include <Python.h>
#include <time.h>

/* 1 with a reference, 0 without one, -1 with an exception. */
static inline int look_up(PyObject *thing, PyObject *name, PyObject **found) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(thing, name, found);
#else
    return _PyObject_LookupAttr(thing, name, found);
#endif
}

/* What a weak reference refers to, the caller's reference; NULL where that is gone, or it is none. */
static inline PyObject *referred(PyObject *reference) {
    if (reference == NULL || !PyWeakref_Check(reference)) return NULL;
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *found = NULL;
    return PyWeakref_GetRef(reference, &found) < 0 ? NULL : found;
#else
    PyObject *found = PyWeakref_GetObject(reference);
    return found == NULL || found == Py_None ? NULL : Py_NewRef(found);
#endif
}

static inline int refers_to(PyObject *reference, PyObject *thing) {
    PyObject *found = referred(reference);
    Py_XDECREF(found);
    return found == thing;
}

/* Take what a dictionary has under a key out of it: 1 with the caller's reference, 0 without one, -1 with an exception. */
static inline int popped(PyObject *dictionary, PyObject *key, PyObject **found) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_Pop(dictionary, key, found);
#else
    *found = _PyDict_Pop(dictionary, key, dictionary);
    if (*found == dictionary) Py_CLEAR(*found);
    return *found != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* Take a key out of a dictionary: 1, 0 where it was not there, -1 with an exception. */
static inline int removed(PyObject *dictionary, PyObject *key) {
    PyObject *value = NULL;
    int done = popped(dictionary, key, &value);
    Py_XDECREF(value);
    return done;
}

/* The one digit of a number that only its owner has, whose like the interpreter does not share, and to which one can be
   added; NULL for any other. */
static inline digit *digit_to_add_to(PyObject *number) {
    if (Py_REFCNT(number) != 1 || !PyLong_CheckExact(number)) return NULL;
#if PY_VERSION_HEX >= 0x030C0000
    if (((PyLongObject *)number)->long_value.lv_tag != 1 << 3) return NULL; /* one digit, positive */
    digit *only = ((PyLongObject *)number)->long_value.ob_digit;
#else
    if (Py_SIZE(number) != 1) return NULL;
    digit *only = ((PyLongObject *)number)->ob_digit;
#endif
    return *only > 256 && *only < PyLong_MASK ? only : NULL;
}

/* Seconds, as time.monotonic has them: on Linux from where that has them too, without the way there. */
static inline double monotonic(void) {
#ifdef __linux__
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* which the interpreter does not start without */
    return (double)(now.tv_sec * 1000000000LL + now.tv_nsec) / 1e9;
#elif PY_VERSION_HEX >= 0x030D0000
    PyTime_t now;
    (void)PyTime_MonotonicRaw(&now); /* as above */
    return PyTime_AsSecondsDouble(now);
#else
    return _PyTime_AsSecondsDouble(_PyTime_GetMonotonicClock());
#endif
}
#endif
