/* What is noted of a task when it is made: the tuple of tasks.py. */
#ifndef NOTING_H
#define NOTING_H

#include "holding.h"

/* How tasks are noted, by what tasks.py knows of asyncio. */
typedef struct {
    PyObject *notes;       /* a dictionary */
    PyObject *create_task; /* the code of asyncio's function */
    PyObject *root;        /* the code in which the stacks of its loops begin */
    Py_ssize_t reach;      /* frames that are noted, at most */
} Noting;

/* The frames above, code and instruction in turns; True where there are none. */
static PyObject *above(Swift *self, Noting *how, Step *step) {
    Steps steps = {.length = 0};
    for (; step != NULL && code_of(step) != how->root && steps.length < how->reach; step = back(step)) {
        steps.code[steps.length] = code_of(step);
        steps.instruction[steps.length++] = instruction_of(step);
    }
    return steps.length ? stack_of(&self->memory, &steps) : Py_NewRef(Py_True);
}

/* Who has the task made, by asyncio's function or by the loop's method; NULL where nobody does. */
static Step *maker_of(Noting *how) {
    Step *step = running();
    if (step != NULL && code_of(step) == how->create_task) step = back(step);
    return step;
}

static PyObject *reference_to_running(Swift *self, PyObject *loop) {
    PyObject *task = PyObject_CallOneArg(self->current_task, loop);
    if (task == NULL || task == Py_None) return task;
    PyObject *reference = PyWeakref_NewRef(task, NULL);
    Py_DECREF(task);
    return reference;
}

/* What is noted, one reference each; all of them, or NULL with an exception. */
static PyObject *note_of(Swift *self, Noting *how, PyObject *task, PyObject *loop, Step *step) {
    PyObject *scope = NULL;
    PyObject *note = PyTuple_New(9);
    if (note == NULL || PyContextVar_Get(self->scope, NULL, &scope) < 0) goto failed;
    PyTuple_SET_ITEM(note, 4, scope == NULL ? Py_NewRef(Py_None) : scope);
    PyTuple_SET_ITEM(note, 6, Py_NewRef(code_of(step)));
    if ((PyTuple_GET_ITEM(note, 0) = PyWeakref_NewRef(task, NULL)) == NULL) goto failed;
    if ((PyTuple_GET_ITEM(note, 1) = now_of(self)) == NULL) goto failed;
    if ((PyTuple_GET_ITEM(note, 2) = context_of(self)) == NULL) goto failed;
    if ((PyTuple_GET_ITEM(note, 3) = reference_to_running(self, loop)) == NULL) goto failed;
    if ((PyTuple_GET_ITEM(note, 5) = PyObject_GetAttr(self->this_thread, owner_name)) == NULL) goto failed;
    if ((PyTuple_GET_ITEM(note, 7) = PyLong_FromLong(instruction_of(step))) == NULL) goto failed;
    if ((PyTuple_GET_ITEM(note, 8) = above(self, how, back(step))) == NULL) goto failed;
    return note;
failed:
    Py_XDECREF(note);
    return NULL;
}

/* 0, or -1 with an exception. */
static int noted(Swift *self, Noting *how, PyObject *task, PyObject *loop) {
    Step *step = maker_of(how);
    if (step == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "no frame found that makes the task, one expected");
        return -1;
    }
    PyObject *note = note_of(self, how, task, loop, step), *key = note == NULL ? NULL : PyLong_FromVoidPtr(task);
    int done = key == NULL ? -1 : PyDict_SetItem(how->notes, key, note);
    Py_XDECREF(key);
    Py_XDECREF(note);
    return done;
}
#endif
