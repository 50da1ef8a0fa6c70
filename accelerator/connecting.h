/* What is noted of the connector slot that a request holds; `Client` says the same in Python. */
#ifndef CONNECTING_H
#define CONNECTING_H

#include "asking.h"

static PyObject *connector_name, *key_name, *loop_name, *ssl_name, *host_name, *port_name, *http_text, *https_text, *colon_text;

/* -- its beginning -- */

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
    *last = (Last){secure, Py_NewRef(host), Py_NewRef(port), Py_NewRef(name), Py_XNewRef(last->loop), Py_XNewRef(last->connector)};
    forget_last(&before);
    return name;
}

/* The name of who is talked to, which is no secret. */
static PyObject *name_of(Asking *self, PyObject *key) {
    PyObject *ssl = attribute_of(&self->ssl, key, ssl_name), *host = ssl == NULL ? NULL : attribute_of(&self->host, key, host_name);
    PyObject *port = host == NULL ? NULL : attribute_of(&self->port, key, port_name), *name = NULL;
    int secure = port == NULL ? -1 : PyObject_IsTrue(ssl);
    if (secure >= 0) name = name_like(&self->last, secure, host, port);
    Py_XDECREF(ssl);
    Py_XDECREF(host);
    Py_XDECREF(port);
    return name;
}

/* Give a slot of a handle what was made for it. */
static int put_made(PyObject *handle, Py_ssize_t slot, PyObject *made) {
    if (made == NULL) return -1;
    put(handle, slot, made);
    return 0;
}

/* What a connection is made of, as it is called with. */
typedef struct {
    PyObject *connector, *key, *loop;
} Made;

/* A weak reference, the caller's reference: the last one, which most refer to too, or a new one; NULL with an exception. */
static PyObject *reference_like(PyObject **last, PyObject *thing) {
    if (*last != NULL && ((PyWeakReference *)*last)->wr_object == thing) return Py_NewRef(*last);
    PyObject *made = PyWeakref_NewRef(thing, NULL);
    if (made != NULL) Py_XSETREF(*last, Py_NewRef(made));
    return made;
}

static int described(Asking *self, PyObject *handle, PyObject *connection, Made made) {
    put(handle, self->handle_websocket, Py_NewRef(self->none));
    return put_made(handle, self->handle_name, name_of(self, made.key)) < 0 ||
                   put_made(handle, self->handle_ref, PyWeakref_NewRef(connection, NULL)) < 0 ||
                   put_made(handle, self->handle_loop, reference_like(&self->last.loop, made.loop)) < 0 ||
                   put_made(handle, self->handle_through, reference_like(&self->last.connector, made.connector)) < 0
               ? -1
               : 0;
}

/* The same, where a connection was not called with it in order. */
static int described_itself(Asking *self, PyObject *handle, PyObject *connection) {
    PyObject *connector = PyObject_GetAttr(connection, connector_name);
    PyObject *key = connector == NULL ? NULL : PyObject_GetAttr(connection, key_name);
    PyObject *loop = key == NULL ? NULL : PyObject_GetAttr(connection, loop_name);
    int done = loop == NULL ? -1 : described(self, handle, connection, (Made){connector, key, loop});
    Py_XDECREF(connector);
    Py_XDECREF(key);
    Py_XDECREF(loop);
    return done;
}

/* Whether what executes there has a name, which is interned as all of them are. */
static int is_named(Step *step, PyObject *name) { return step != NULL && ((PyCodeObject *)code_of(step))->co_name == name; }

/* A handle for one more slot of a request that has one already, a redirect's; takes the reference to the first. */
static PyObject *another(Asking *self, PyObject *origin) {
    PyObject *handle = cloned(swift_behind(self)->spares, self->template);
    if (handle != NULL && moved(swift_behind(self), handle, origin) < 0) Py_CLEAR(handle);
    Py_DECREF(origin);
    return handle;
}

/* As Client._note_slot; a connection is made of itself, its connector, its key, the protocol and the loop. */
static int note_slot(Asking *self, PyObject *const *args, Py_ssize_t count, PyObject *Py_UNUSED(result)) {
    Step *maker = running();
    if (is_named(maker, self->tunnel)) return 0;
    PyObject *handle = NULL;
    int done = nearest(self, maker, &handle);
    if (done == 0) done = located_anew(self, &handle);
    if (done <= 0) return done;
    if (!Py_IS_TYPE(handle, Py_TYPE(self->template))) {
        PyErr_Format(PyExc_TypeError, "%s found, the handle of a slot expected", Py_TYPE(handle)->tp_name);
        Py_DECREF(handle);
        return -1;
    }
    if (get(handle, self->handle_through) != Py_None) handle = another(self, handle);
    if (handle == NULL) return -1;
    done = count == 5 ? described(self, handle, args[0], (Made){args[1], args[2], args[4]}) : described_itself(self, handle, args[0]);
    if (done == 0) done = held(swift_behind(self), handle);
    if (done == 0) done = table_put((Table *)self->open, args[0], handle);
    Py_DECREF(handle);
    return done;
}

/* -- its end -- */

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

/* As Client._end. */
static int ended_slot(Asking *self, PyObject *thing, PyObject *end) {
    PyObject *handle = slot_closed(self, thing);
    if (handle == NULL) return 0;
    int done = ended_by(self, handle, end);
    Py_DECREF(handle);
    return done < 0 ? -1 : 0;
}

/* What runs may be a finalizer, because nobody has its object any more: no word is said of that. */
static int note_return(Asking *self, PyObject *const *args, Py_ssize_t Py_UNUSED(count), PyObject *Py_UNUSED(result)) {
    return ended_slot(self, args[0], is_named(running(), self->finalizer) ? self->abandon : NULL);
}

/* As Client.connection_dropped: not released, if it still has its protocol. */
static int note_dropped(Asking *self, PyObject *const *args, Py_ssize_t Py_UNUSED(count), PyObject *Py_UNUSED(result)) {
    if (indexed(self->open, args[0]) == NULL) return 0;
    PyObject *protocol = PyObject_GetAttr(args[0], protocol_name);
    if (protocol == NULL) return -1;
    Py_DECREF(protocol);
    return ended_slot(self, args[0], protocol == Py_None ? NULL : self->abandon);
}
#endif
