/* The site of a frame and its callers: what Sites.at does, for sites that it knows. */
#ifndef SITES_H
#define SITES_H

#include "frames.h"
#include "swift.h"

/* Frames of a whole stack, at most: what the setting allows. */
#define DEEPEST 256

/* What a frame's code is to a site; -1 with an exception. */
static inline int role_of(Swift *self, Step *step, PyObject *code) {
    int role = role_known(&self->memory, code);
    if (role != UNKNOWN) return role;
    PyObject *told = PyObject_CallMethodObjArgs(self->sites, classify_name, code, globals_of(step), NULL);
    if (told == NULL) return -1;
    role = (int)PyLong_AsLong(told);
    Py_DECREF(told);
    if (role > 0 && remember_role(&self->memory, code, role) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return role;
}

static int key_of(Swift *self, Step *step, PyObject *kind, Key *key) {
    key->kind = kind;
    key->length = 0;
    for (; step != NULL; step = back(step)) {
        PyObject *code = code_of(step);
        int role = role_of(self, step, code);
        if (role < 0) return -1;
        if (role == ROOT) break;
        if (role != USER) continue;
        key->code[key->length] = code;
        key->instruction[key->length++] = instruction_of(step);
        if (key->length == self->near_count) break;
    }
    return 0;
}

static PyObject *pair(PyObject *code, int instruction) {
    PyObject *number = PyLong_FromLong(instruction);
    if (number == NULL) return NULL;
    PyObject *both = PyTuple_Pack(2, code, number);
    Py_DECREF(number);
    return both;
}

/* The user frames from here on, as Sites._walk tells them; NULL with an exception. */
static PyObject *walk(Swift *self, Step *step) {
    PyObject *stack[DEEPEST];
    Py_ssize_t count = 0, most = self->depth < DEEPEST ? self->depth : DEEPEST;
    for (; step != NULL && count < most; step = back(step)) {
        PyObject *code = code_of(step);
        int role = role_of(self, step, code);
        if (role == ROOT) break;
        if (role < 0 || (role == USER && (stack[count++] = pair(code, instruction_of(step))) == NULL)) {
            if (role >= 0) count--;
            while (count) Py_DECREF(stack[--count]);
            return NULL;
        }
    }
    PyObject *whole = PyTuple_New(count);
    for (Py_ssize_t at = 0; at < count; at++) {
        if (whole != NULL) PyTuple_SET_ITEM(whole, at, stack[at]);
        else Py_DECREF(stack[at]);
    }
    return whole;
}

/* Ask Sites.at itself; both references are the caller's. */
static int ask(Swift *self, PyObject *frame, PyObject *kind, PyObject **site, PyObject **stack) {
    if (frame == NULL) frame = (PyObject *)PyEval_GetFrame();
    PyObject *told = PyObject_CallMethodObjArgs(self->sites, at_name, frame, kind, NULL);
    if (told == NULL) return -1;
    if (!PyTuple_CheckExact(told) || PyTuple_GET_SIZE(told) != 2 ||
        !PyObject_TypeCheck(PyTuple_GET_ITEM(told, 0), (PyTypeObject *)self->site_type)) {
        Py_DECREF(told);
        PyErr_SetString(PyExc_TypeError, "Sites.at is expected to return a site and its stack");
        return -1;
    }
    *site = Py_NewRef(PyTuple_GET_ITEM(told, 0));
    *stack = Py_NewRef(PyTuple_GET_ITEM(told, 1));
    Py_DECREF(told);
    return 0;
}

/* Count one more acquisition; how many there are now, -1 with an exception. */
static Py_ssize_t count_up(PyObject *object, Py_ssize_t offset) {
    PyObject *before = get(object, offset);
    digit *only = before == NULL ? NULL : digit_to_add_to(before);
    if (only != NULL) return ++*only;
    Py_ssize_t count = before == NULL ? 0 : PyLong_AsSsize_t(before);
    if (count == -1 && PyErr_Occurred()) return -1;
    PyObject *now = PyLong_FromSsize_t(count + 1);
    if (now == NULL) return -1;
    put(object, offset, now);
    return count + 1;
}

/* As Sites.at, of the running frame where none is given, which executes there, as far as that is known: the site, and its
   stack or None. Both references are the caller's; -1 with an exception. */
static int site_at(Swift *self, Step *step, PyObject *frame, PyObject *kind, PyObject **site, PyObject **stack) {
    if (step == NULL) return ask(self, frame, kind, site, stack);
    Key key;
    if (key_of(self, step, kind, &key) < 0) return -1;
    size_t hash = hash_of(mix(0, (size_t)kind), key.length, key.code, key.instruction);
    PyObject *known = key.length ? site_known(&self->memory, &key, hash) : NULL;
    if (known == NULL) {
        if (ask(self, frame, kind, site, stack) < 0) return -1;
        if (key.length && remember_site(&self->memory, &key, hash, *site) < 0) {
            Py_CLEAR(*site);
            Py_CLEAR(*stack);
            PyErr_NoMemory();
            return -1;
        }
        return 0;
    }
    Py_INCREF(known);
    Py_ssize_t count = count_up(known, self->site_acquired);
    if (count < 0) goto failed;
    if (self->full || get(known, self->site_leaked) == Py_True || count <= self->first || count % self->every == 0) {
        *stack = walk(self, step);
        if (*stack == NULL) goto failed;
        if (PyTuple_GET_SIZE(*stack) == 0) {
            PyObject *frames = get(known, self->site_frames);
            Py_SETREF(*stack, Py_NewRef(frames == NULL ? Py_None : frames));
        }
    } else {
        *stack = Py_NewRef(Py_None);
    }
    *site = known;
    return 0;
failed:
    Py_DECREF(known);
    return -1;
}
#endif
