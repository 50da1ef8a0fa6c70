/* What is noted of a task when it is made: the tuple of tasks.py. */
#ifndef NOTING_H
#define NOTING_H

#include "holding.h"

/* Items of a note. */
#define NOTED 9

/* How tasks are noted, by what tasks.py knows of asyncio. */
typedef struct {
    PyObject *notes;       /* an index */
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
    PyObject *task = task_on(self, loop);
    if (task == NULL || task == Py_None) return task;
    PyObject *reference = PyWeakref_NewRef(task, NULL);
    Py_DECREF(task);
    return reference;
}

/* What is noted, one reference each: 0 with all of them, or -1 with an exception. */
static int items_of(Swift *self, Noting *how, PyObject *task, PyObject *loop, Step *step, PyObject **items) {
    items[6] = Py_NewRef(code_of(step));
    if ((items[0] = PyWeakref_NewRef(task, NULL)) == NULL) return -1;
    if ((items[1] = now_of(self)) == NULL) return -1;
    if ((items[2] = context_of(self)) == NULL) return -1;
    if ((items[3] = reference_to_running(self, loop)) == NULL) return -1;
    if ((items[4] = scope_of(self)) == NULL) return -1;
    if ((items[5] = thread_of(self)) == NULL) return -1;
    if ((items[7] = PyLong_FromLong(instruction_of(step))) == NULL) return -1;
    return (items[8] = above(self, how, back(step))) == NULL ? -1 : 0;
}

/* Keep what is noted, in place of what was noted of another task that was at the same place in memory: in the tuple that
   there is, where nobody else has that. */
static int kept(Noting *how, PyObject *task, PyObject **items) {
    PyObject *note = indexed(how->notes, task);
    if (note != NULL && PyTuple_CheckExact(note) && Py_REFCNT(note) == 1 && PyTuple_GET_SIZE(note) == NOTED) return exchange(note, items), 0;
    if ((note = PyTuple_New(NOTED)) == NULL) return -1;
    exchange(note, items);
    PyObject_GC_UnTrack(note); /* nothing in it leads back to it: the collector need not look */
    int done = table_put((Table *)how->notes, task, note);
    Py_DECREF(note);
    return done;
}

/* 0, or -1 with an exception. */
static int noted(Swift *self, Noting *how, PyObject *task, PyObject *loop) {
    Step *step = maker_of(how);
    if (step == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "no frame found that makes the task, one expected");
        return -1;
    }
    PyObject *items[NOTED] = {NULL};
    int done = items_of(self, how, task, loop, step, items) < 0 ? -1 : kept(how, task, items);
    for (Py_ssize_t at = 0; at < NOTED; at++) Py_XDECREF(items[at]);
    return done;
}
#endif
