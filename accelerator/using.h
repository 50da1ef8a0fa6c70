/* Whether who uses a handle is plainly whom it was taken for: what Tracker.use asks first. */
#ifndef USING_H
#define USING_H

#include "holding.h"

static PyObject *recording_name, *done_name;

/* Whether a span still records, as it says itself; -1 with an exception. */
static int says_to_record(PyObject *span) {
    PyObject *recording = PyObject_CallMethodNoArgs(span, recording_name);
    Py_XDECREF(recording);
    return recording == NULL ? -1 : recording == Py_True;
}

/* Look at the type of a span that is not the last one's; -1 with an exception. */
static int know_recorder(Swift *self, PyTypeObject *type) {
    if (self->end_in.type == type) return 0;
    PyObject *end = PyObject_CallOneArg(self->end_of, (PyObject *)type);
    if (end == NULL) return -1;
    look_inside(&self->end_in, type, end);
    Py_XSETREF(self->span_end, end);
    return 0;
}

/* Whether a span still records; -1 with an exception. Most have no end as long as they do, and need not be asked. */
static int is_recording(Swift *self, PyObject *span) {
    if (know_recorder(self, Py_TYPE(span)) < 0) return -1;
    if (self->span_end == Py_None) return says_to_record(span);
    PyObject *end = attribute_of(&self->end_in, span, self->span_end);
    Py_XDECREF(end);
    return end == NULL ? -1 : end == Py_None;
}

/* Whether a span is the current one, and the task that a reference refers to is not over; -1 with an exception. */
static int is_inherited(Swift *swift, PyObject *span, PyObject *reference) {
    PyObject *context = context_of(swift);
    if (context == NULL) return -1;
    int same = within(context, swift->span_key) == span;
    Py_DECREF(context);
    if (!same) return PyErr_Occurred() ? -1 : 0;
    if (reference == Py_None) return 1;
    PyObject *task = referred(reference), *done = task == NULL ? NULL : PyObject_CallMethodNoArgs(task, done_name);
    Py_XDECREF(task);
    Py_XDECREF(done);
    return done == NULL ? (PyErr_Occurred() ? -1 : 0) : done == Py_False;
}

/* Whether it is plain that a handle was taken for whom another was located for just now. */
static int is_mates(Swift *swift, PyObject *handle, PyObject *located) {
    PyObject *span = get(handle, swift->handle_span);
    if (span != get(located, swift->handle_span) || get(handle, swift->handle_scope) != get(located, swift->handle_scope) ||
        get(handle, swift->handle_task) != get(located, swift->handle_task) || span == NULL) return 0;
    if (span == Py_None) return 1;
    Py_INCREF(span);
    int recording = is_recording(swift, span);
    Py_DECREF(span);
    return recording;
}

/* Whether it is plain, without tracker.use, that whoever runs now is whom a handle was taken for, or works for it: the
   same scope, under a span that has not ended, and the same task, or another in the same span before the first is over;
   -1 with an exception. */
static int is_owners(Swift *swift, PyObject *handle) {
    PyObject *scope = scope_of(swift);
    if (scope == NULL) return -1;
    Py_DECREF(scope);
    if (scope != get(handle, swift->handle_scope)) return 0;
    PyObject *span = Py_XNewRef(get(handle, swift->handle_span)), *owner = Py_XNewRef(get(handle, swift->handle_task)), *task = NULL;
    int has_span = span != NULL && span != Py_None, plain = has_span ? is_recording(swift, span) : 1;
    if (plain > 0) plain = (task = task_of(swift)) == NULL ? -1 : task != Py_None && refers_to(owner, task);
    if (plain == 0 && task != NULL && has_span) plain = is_inherited(swift, span, owner);
    Py_XDECREF(task);
    Py_XDECREF(owner);
    Py_XDECREF(span);
    return plain;
}
#endif
