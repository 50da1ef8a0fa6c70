/* What is noted of aiohttp's requests, and of the connector slots that they hold; `_Client` says the same in Python. */
#ifndef ASKING_H
#define ASKING_H

#include "pooling.h"
#include "using.h"

/* What is kept, by the name it is given under. `asked`: the coroutines under way, by where they execute, as pairs of a
   weak reference and the handle that was located where each was asked for; `open`, `through`: as `_Client` has them;
   `none`: a reference to nothing; `tunnel`: the function that has a Connection for itself alone. */
#define ASKING_PARTS(PART) \
    PART(swift) PART(template) PART(session_type) PART(asked) PART(open) PART(through) PART(none) PART(tunnel) \
    PART(use) PART(abandon) PART(failed)

#define ASKING_SLOTS(SLOT) SLOT(connector) SLOT(loop) SLOT(ref) SLOT(websocket)

/* Who was talked to last, and what that is called. */
typedef struct {
    int secure;
    PyObject *host, *port, *name;
} Last;

typedef struct {
    PyObject_HEAD
#define PART(name) PyObject *name;
    ASKING_PARTS(PART)
#undef PART
#define SLOT(name) Py_ssize_t handle_##name;
    ASKING_SLOTS(SLOT)
#undef SLOT
    Py_ssize_t session_requests;
    Last last;
} Asking;

static PyObject *connector_name, *key_name, *loop_name, *ssl_name, *host_name, *port_name, *protocol_name, *connection_name,
    *closed_name, *http_text, *https_text, *colon_text;

static void forget_last(Last *last) {
    Py_CLEAR(last->host);
    Py_CLEAR(last->port);
    Py_CLEAR(last->name);
}

static inline Swift *swift_behind(Asking *self) { return (Swift *)self->swift; }

/* -- where a request was asked for -- */

/* A new handle that is located where the running code is: 1 with the caller's reference, 0 where telemetry asks, or -1. */
static int located_anew(Asking *self, PyObject **origin) {
    *origin = cloned(self->template);
    int done = *origin == NULL ? -1 : located(swift_behind(self), *origin, NULL);
    if (done <= 0) Py_CLEAR(*origin);
    return done;
}

/* Where the coroutine was asked for that executes in a frame: 1 with the caller's reference, 0, or -1. */
static int origin_of(Asking *self, Step *step, PyObject **origin) {
    if (step == NULL || !(((PyCodeObject *)code_of(step))->co_flags & CO_COROUTINE)) return 0;
    PyObject *pair = by_identity(self->asked, step);
    if (pair == NULL || !PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) return PyErr_Occurred() ? -1 : 0;
    *origin = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    PyObject *coroutine = referred(PyTuple_GET_ITEM(pair, 0));
    int same = coroutine != NULL && step_of(coroutine) == step;
    Py_XDECREF(coroutine);
    if (!same) Py_CLEAR(*origin);
    return same;
}

/* The same of the innermost coroutine that the running code is part of. */
static int nearest(Asking *self, PyObject **origin) {
    int found = 0;
    for (Step *step = running(); step != NULL && found == 0; step = back(step)) found = origin_of(self, step, origin);
    return found;
}

/* Note where a coroutine that has not started was asked for; of another awaitable, nothing is noted. */
static int remembered(Asking *self, PyObject *request, PyObject *origin) {
    if (!PyCoro_CheckExact(request) || step_of(request) == NULL) return 0;
    PyObject *key = PyLong_FromVoidPtr(step_of(request)), *reference = PyWeakref_NewRef(request, NULL);
    PyObject *pair = key == NULL || reference == NULL ? NULL : PyTuple_Pack(2, reference, origin);
    int done = pair == NULL ? -1 : PyDict_SetItem(self->asked, key, pair);
    Py_XDECREF(key);
    Py_XDECREF(reference);
    Py_XDECREF(pair);
    return done;
}

/* As Tracker.use. */
static int used_now(Asking *self, PyObject *handle) {
    if (get(handle, swift_behind(self)->handle_shared) == Py_True) return 0;
    int plain = is_owners(swift_behind(self), handle);
    if (plain) return plain < 0 ? -1 : 0;
    PyObject *told = PyObject_CallOneArg(self->use, handle);
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

static int session_used(Asking *self, PyObject *session) {
    PyObject *handle = by_identity(self->open, session);
    if (handle == NULL) return PyErr_Occurred() ? -1 : 0;
    if ((PyObject *)Py_TYPE(handle) != self->session_type) return 0;
    Py_INCREF(handle);
    int done = count_up(handle, self->session_requests) < 0 ? -1 : used_now(self, handle);
    Py_DECREF(handle);
    return done;
}

/* As _Client._note_request: a websocket's own request, two calls below it, was asked for where the websocket was. */
static int note_request(Asking *self, PyObject *session, PyObject *request) {
    Step *asker = running();
    PyObject *origin = NULL;
    int done = origin_of(self, asker == NULL ? NULL : back(asker), &origin);
    if (done == 0) done = located_anew(self, &origin);
    if (done > 0) done = remembered(self, request, origin);
    Py_XDECREF(origin);
    return done < 0 ? -1 : session_used(self, session);
}

/* -- the slot it holds -- */

/* Whether an attribute of an object is true; -1 with an exception. */
static int has(PyObject *thing, PyObject *name) {
    PyObject *value = PyObject_GetAttr(thing, name);
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return truth;
}

static PyObject *made_name(int secure, PyObject *host, PyObject *port) {
    PyObject *name = PyUnicode_Concat(secure ? https_text : http_text, host), *number = PyObject_Str(port);
    PyUnicode_Append(&name, colon_text);
    if (number == NULL) Py_CLEAR(name);
    PyUnicode_AppendAndDel(&name, number);
    return name;
}

/* The same as the last one's, which most are, or a new one; NULL with an exception. */
static PyObject *name_like(Last *last, int secure, PyObject *host, PyObject *port) {
    if (last->name != NULL && last->secure == secure) {
        int same = PyObject_RichCompareBool(last->host, host, Py_EQ);
        if (same > 0) same = PyObject_RichCompareBool(last->port, port, Py_EQ);
        if (same) return same < 0 ? NULL : Py_NewRef(last->name);
    }
    PyObject *name = made_name(secure, host, port);
    if (name == NULL) return NULL;
    Last before = *last;
    *last = (Last){secure, Py_NewRef(host), Py_NewRef(port), Py_NewRef(name)};
    forget_last(&before);
    return name;
}

/* The name of who is talked to, which is no secret. */
static PyObject *name_of(Asking *self, PyObject *connection) {
    PyObject *key = PyObject_GetAttr(connection, key_name), *name = NULL;
    if (key == NULL) return NULL;
    int secure = has(key, ssl_name);
    PyObject *host = PyObject_GetAttr(key, host_name), *port = host == NULL ? NULL : PyObject_GetAttr(key, port_name);
    if (secure >= 0 && port != NULL) name = name_like(&self->last, secure, host, port);
    Py_XDECREF(host);
    Py_XDECREF(port);
    Py_DECREF(key);
    return name;
}

static PyObject *reference_to_loop(PyObject *connection) {
    PyObject *loop = PyObject_GetAttr(connection, loop_name);
    PyObject *reference = loop == NULL ? NULL : PyWeakref_NewRef(loop, NULL);
    Py_XDECREF(loop);
    return reference;
}

static PyObject *id_of_connector(PyObject *connection) {
    PyObject *connector = PyObject_GetAttr(connection, connector_name);
    PyObject *id = connector == NULL ? NULL : PyLong_FromVoidPtr(connector);
    Py_XDECREF(connector);
    return id;
}

/* Give a slot of a handle what was made for it. */
static int put_made(PyObject *handle, Py_ssize_t slot, PyObject *made) {
    if (made == NULL) return -1;
    put(handle, slot, made);
    return 0;
}

static int described(Asking *self, PyObject *handle, PyObject *connection) {
    put(handle, self->handle_websocket, Py_NewRef(self->none));
    return put_made(handle, swift_behind(self)->handle_name, name_of(self, connection)) < 0 ||
                   put_made(handle, self->handle_ref, PyWeakref_NewRef(connection, NULL)) < 0 ||
                   put_made(handle, self->handle_loop, reference_to_loop(connection)) < 0 ||
                   put_made(handle, self->handle_connector, id_of_connector(connection)) < 0
               ? -1
               : 0;
}

/* As _Client._begin. */
static int begun_through(Asking *self, PyObject *connection, PyObject *handle) {
    PyObject *key = PyLong_FromVoidPtr(connection), *through = get(handle, self->handle_connector);
    if (key == NULL || PyDict_SetItem(self->open, key, handle) < 0) goto failed;
    PyObject *mates = PyDict_GetItemWithError(self->through, through);
    if (mates == NULL && PyErr_Occurred()) goto failed;
    mates = mates == NULL ? PyDict_New() : Py_NewRef(mates);
    int done = mates == NULL || PyDict_SetItem(mates, key, handle) < 0 ? -1 : PyDict_SetItem(self->through, through, mates);
    Py_XDECREF(mates);
    Py_DECREF(key);
    return done;
failed:
    Py_XDECREF(key);
    return -1;
}

static int is_tunnel(Asking *self) {
    Step *step = running();
    return step != NULL && PyUnicode_Compare(((PyCodeObject *)code_of(step))->co_name, self->tunnel) == 0;
}

/* A handle for one more slot of a request that has one already, a redirect's; takes the reference to the first. */
static PyObject *another(Asking *self, PyObject *origin) {
    PyObject *handle = cloned(self->template);
    if (handle != NULL && moved(swift_behind(self), handle, origin) < 0) Py_CLEAR(handle);
    Py_DECREF(origin);
    return handle;
}

/* As _Client._note_slot. */
static int note_slot(Asking *self, PyObject *connection, PyObject *Py_UNUSED(result)) {
    if (is_tunnel(self)) return 0;
    PyObject *handle = NULL;
    int done = nearest(self, &handle);
    if (done == 0) done = located_anew(self, &handle);
    if (done <= 0) return done;
    if (!Py_IS_TYPE(handle, Py_TYPE(self->template))) {
        PyErr_Format(PyExc_TypeError, "%s found, the handle of a slot expected", Py_TYPE(handle)->tp_name);
        Py_DECREF(handle);
        return -1;
    }
    PyObject *through = get(handle, self->handle_connector);
    if (through == NULL || PyObject_IsTrue(through)) handle = another(self, handle);
    done = handle == NULL || described(self, handle, connection) < 0 || held(swift_behind(self), handle) < 0 ? -1 : begun_through(self, connection, handle);
    Py_XDECREF(handle);
    return done;
}

/* -- its end -- */

/* Take one off those that go through its connector. */
static int left_mates(Asking *self, PyObject *through, PyObject *key) {
    PyObject *mates = through == NULL ? NULL : PyDict_GetItemWithError(self->through, through);
    if (mates == NULL) return PyErr_Occurred() ? -1 : 0;
    int is_one = PyDict_Contains(mates, key);
    if (is_one < 0 || (is_one && PyDict_DelItem(mates, key) < 0)) return -1;
    return PyDict_GET_SIZE(mates) ? 0 : PyDict_DelItem(self->through, through);
}

/* As _Client._end; `end` is NULL for a release. */
static int ended_slot(Asking *self, PyObject *thing, PyObject *end) {
    PyObject *key = PyLong_FromVoidPtr(thing);
    PyObject *handle = key == NULL ? NULL : PyDict_GetItemWithError(self->open, key);
    if (handle == NULL || !Py_IS_TYPE(handle, Py_TYPE(self->template))) {
        Py_XDECREF(key);
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(handle);
    int done = PyDict_DelItem(self->open, key) < 0 ? -1 : left_mates(self, get(handle, self->handle_connector), key);
    Py_DECREF(key);
    if (done == 0 && end == NULL) done = gave_back(swift_behind(self), handle) < 0 ? -1 : 0;
    if (done == 0 && end != NULL) {
        PyObject *told = PyObject_CallOneArg(end, handle);
        done = told == NULL ? -1 : 0;
        Py_XDECREF(told);
    }
    Py_DECREF(handle);
    return done;
}

static int note_return(Asking *self, PyObject *connection, PyObject *Py_UNUSED(result)) { return ended_slot(self, connection, NULL); }

/* As _Client.connection_dropped: not released, if it still has its protocol. */
static int note_dropped(Asking *self, PyObject *connection, PyObject *Py_UNUSED(result)) {
    if (by_identity(self->open, connection) == NULL) return PyErr_Occurred() ? -1 : 0;
    PyObject *protocol = PyObject_GetAttr(connection, protocol_name);
    if (protocol == NULL) return -1;
    Py_DECREF(protocol);
    return ended_slot(self, connection, protocol == Py_None ? NULL : self->abandon);
}

/* As _Client.response_dropped: it gives a slot that it still holds back without a word. */
static int note_response_dropped(Asking *self, PyObject *response, PyObject *Py_UNUSED(result)) {
    PyObject *connection = NULL;
    int done = look_up(response, connection_name, &connection);
    if (done > 0 && connection != Py_None) {
        done = has(response, closed_name);
        if (done == 0) done = ended_slot(self, connection, self->abandon);
    }
    Py_XDECREF(connection);
    return done < 0 ? -1 : 0;
}
#endif
