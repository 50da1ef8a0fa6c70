/* What is noted of aiohttp's requests, and where each was asked for; `Client` says the same in Python. */
#ifndef ASKING_H
#define ASKING_H

#include "pooling.h"
#include "using.h"

/* What is kept, by the name it is given under. `asked`: the coroutines under way, by where they execute, as pairs of a
   weak reference and the handle that was located where each was asked for; `open`: as `Client` has it; `tunnel`: the
   function that has a Connection for itself alone; `finalizer`: what those are called that give a connection back without
   a word. */
#define ASKING_PARTS(PART) \
    PART(swift) PART(template) PART(session_type) PART(asked) PART(open) PART(tunnel) PART(finalizer) \
    PART(use) PART(keep_name) PART(abandon) PART(failed)

/* Functions of aiohttp's whose coroutines are noted: a request's and a websocket's, and what others wrap them in. */
#define CODES 4

typedef struct {
    PyObject_HEAD
#define PART(name) PyObject *name;
    ASKING_PARTS(PART)
#undef PART
    Py_ssize_t handle_ref, session_requests;
    PyObject *codes[CODES]; /* which all that was noted executes, unless there were more */
    int code_count;
} Asking;

static inline Swift *swift_behind(Asking *self) { return (Swift *)self->swift; }

/* -- where a request was asked for -- */

/* A new handle that is located where the running code executes: 1 with the caller's reference, 0 where telemetry asks, or
   -1. */
static int located_anew(Asking *self, Step *step, PyObject **origin) {
    *origin = cloned(swift_behind(self)->spares, self->template);
    int done = *origin == NULL ? -1 : located_at(swift_behind(self), *origin, step, NULL);
    if (done <= 0) Py_CLEAR(*origin);
    return done;
}

/* Whether coroutines that execute some code may have been noted. */
static int is_noted(Asking *self, PyObject *code) {
    int at = 0;
    if (self->code_count > CODES) return 1;
    while (at < self->code_count && self->codes[at] != code) at++;
    return at < self->code_count;
}

static void note_code(Asking *self, PyObject *code) {
    if (is_noted(self, code)) return;
    if (self->code_count < CODES) self->codes[self->code_count] = Py_NewRef(code);
    self->code_count++;
}

static void forget_codes(Asking *self) {
    for (int at = 0; at < CODES; at++) Py_CLEAR(self->codes[at]);
    self->code_count = 0;
}

/* Where the coroutine was asked for that executes in a frame: 1 with the caller's reference, 0, or -1. */
static int origin_of(Asking *self, Step *step, PyObject **origin) {
    if (step == NULL || !is_noted(self, code_of(step))) return 0;
    PyObject *pair = indexed(self->asked, step);
    if (pair == NULL || !PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) return 0;
    *origin = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    PyObject *coroutine = referred(PyTuple_GET_ITEM(pair, 0));
    int same = coroutine != NULL && step_of(coroutine) == step;
    Py_XDECREF(coroutine);
    if (!same) Py_CLEAR(*origin);
    return same;
}

/* The same of the innermost coroutine that what executes there is part of. */
static int nearest(Asking *self, Step *step, PyObject **origin) {
    int found = 0;
    for (; step != NULL && found == 0; step = back(step)) found = origin_of(self, step, origin);
    return found;
}

/* Keep both, in place of what was noted of another coroutine at the same place in memory: in the pair that there is,
   where nobody else has that. */
static int kept_pair(Asking *self, Step *step, PyObject *reference, PyObject *origin) {
    PyObject *pair = indexed(self->asked, step);
    if (pair == NULL || !PyTuple_CheckExact(pair) || Py_REFCNT(pair) != 1 || PyTuple_GET_SIZE(pair) != 2) {
        pair = PyTuple_Pack(2, reference, origin);
        int done = pair == NULL ? -1 : table_put((Table *)self->asked, step, pair);
        Py_XDECREF(pair);
        return done;
    }
    PyObject *items[] = {Py_NewRef(reference), Py_NewRef(origin)};
    exchange(pair, items);
    Py_DECREF(items[0]);
    let_go_of(swift_behind(self)->spares, items[1]); /* the next request's, if this one's is over */
    return 0;
}

/* Note where a coroutine that has not started was asked for; of another awaitable, nothing is noted. */
static int remembered(Asking *self, PyObject *request, PyObject *origin) {
    if (!PyCoro_CheckExact(request) || step_of(request) == NULL) return 0;
    note_code(self, code_of(step_of(request)));
    PyObject *reference = PyWeakref_NewRef(request, NULL);
    int done = reference == NULL ? -1 : kept_pair(self, step_of(request), reference, origin);
    Py_XDECREF(reference);
    return done;
}

/* As Tracker.use; `located` is what was located just now, or NULL. */
static int used_now(Asking *self, PyObject *handle, PyObject *located) {
    if (tenure(handle)->shared) return 0;
    int plain = located == NULL ? 0 : is_mates(swift_behind(self), handle, located);
    if (plain == 0) plain = is_owners(swift_behind(self), handle);
    if (plain) return plain < 0 ? -1 : 0;
    PyObject *told = PyObject_CallOneArg(self->use, handle);
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

static int session_used(Asking *self, PyObject *session, PyObject *located) {
    PyObject *handle = indexed(self->open, session);
    if (handle == NULL || (PyObject *)Py_TYPE(handle) != self->session_type) return 0;
    Py_INCREF(handle);
    int done = count_up(handle, self->session_requests) < 0 ? -1 : used_now(self, handle, located);
    Py_DECREF(handle);
    return done;
}

/* As Client._note_request: a websocket's own request, two calls below it, was asked for where the websocket was. */
static int note_request(Asking *self, PyObject *const *args, Py_ssize_t Py_UNUSED(count), PyObject *request) {
    Step *asker = running();
    PyObject *origin = NULL;
    int done = origin_of(self, asker == NULL ? NULL : back(asker), &origin), known = done > 0;
    if (done == 0) done = located_anew(self, asker, &origin);
    if (done > 0) done = remembered(self, request, origin);
    if (done >= 0) done = session_used(self, args[0], known ? NULL : origin);
    Py_XDECREF(origin);
    return done;
}
#endif
