/* What is noted of the connector slot that a request holds; `_Client` says the same in Python. */
#ifndef CONNECTING_H
#define CONNECTING_H

#include "asking.h"

static PyObject *connector_name, *key_name, *loop_name, *ssl_name, *host_name, *port_name, *protocol_name, *connection_name,
    *closed_name, *http_text, *https_text, *colon_text;

/* -- its beginning -- */

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

/* What goes through a connector, borrowed: an index, made where there is none yet; NULL with an exception. */
static PyObject *mates_of(Asking *self, void *connector) {
    PyObject *mates = indexed(self->through, connector);
    if (mates != NULL && is_index(mates)) return mates;
    mates = PyObject_CallNoArgs((PyObject *)&Index_Type);
    if (mates == NULL || table_put((Table *)self->through, connector, mates) < 0) Py_CLEAR(mates);
    Py_XDECREF(mates); /* there it is */
    return mates;
}

/* As _Client._begin. */
static int begun_through(Asking *self, PyObject *connection, PyObject *handle) {
    void *connector = PyLong_AsVoidPtr(get(handle, self->handle_connector));
    if (PyErr_Occurred() || table_put((Table *)self->open, connection, handle) < 0) return -1;
    PyObject *mates = mates_of(self, connector);
    return mates == NULL ? -1 : table_put((Table *)mates, connection, handle);
}

static int is_tunnel(Asking *self) {
    Step *step = running();
    return step != NULL && PyUnicode_Compare(((PyCodeObject *)code_of(step))->co_name, self->tunnel) == 0;
}

/* A handle for one more slot of a request that has one already, a redirect's; takes the reference to the first. */
static PyObject *another(Asking *self, PyObject *origin) {
    PyObject *handle = cloned(swift_behind(self), self->template);
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
static int left_mates(Asking *self, PyObject *through, PyObject *thing) {
    void *connector = through == NULL ? NULL : PyLong_AsVoidPtr(through);
    PyObject *mates = connector == NULL ? NULL : indexed(self->through, connector);
    if (mates == NULL || !is_index(mates)) return PyErr_Occurred() ? -1 : 0;
    PyObject *mate = table_pop((Table *)mates, thing);
    PyObject *none = ((Table *)mates)->count ? NULL : table_pop((Table *)self->through, connector);
    Py_XDECREF(mate);
    Py_XDECREF(none);
    return 0;
}

/* The handle of a slot, which is not open any more, the caller's reference; NULL where there is none. */
static PyObject *slot_closed(Asking *self, PyObject *thing) {
    PyObject *handle = indexed(self->open, thing);
    return handle != NULL && Py_IS_TYPE(handle, Py_TYPE(self->template)) ? table_pop((Table *)self->open, thing) : NULL;
}

/* Have `end` told of a handle; where that is NULL, it is released. */
static int ended_by(Asking *self, PyObject *handle, PyObject *end) {
    if (end == NULL) return gave_back(swift_behind(self), handle);
    PyObject *told = PyObject_CallOneArg(end, handle);
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

/* As _Client._end. */
static int ended_slot(Asking *self, PyObject *thing, PyObject *end) {
    PyObject *handle = slot_closed(self, thing);
    if (handle == NULL) return 0;
    int done = left_mates(self, get(handle, self->handle_connector), thing) < 0 ? -1 : ended_by(self, handle, end);
    Py_DECREF(handle);
    return done < 0 ? -1 : 0;
}

static int note_return(Asking *self, PyObject *connection, PyObject *Py_UNUSED(result)) { return ended_slot(self, connection, NULL); }

/* As _Client.connection_dropped: not released, if it still has its protocol. */
static int note_dropped(Asking *self, PyObject *connection, PyObject *Py_UNUSED(result)) {
    if (indexed(self->open, connection) == NULL) return 0;
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
