/* What is noted of the connector slot that a request holds; `Client` says the same in Python. */
#ifndef CONNECTING_H
#define CONNECTING_H

#include "asking.h"

/* -- its beginning -- */

/* Whether what executes there has a name, which is interned as all of them are. */
static int is_named(Step *step, PyObject *name) { return step != NULL && ((PyCodeObject *)code_of(step))->co_name == name; }

/* A handle for one more slot of a request that has one already, a redirect's; takes the reference to the first. */
static PyObject *another(Asking *self, PyObject *origin) {
    PyObject *handle = cloned(swift_behind(self)->spares, self->template);
    if (handle != NULL && moved(swift_behind(self), handle, origin) < 0) Py_CLEAR(handle);
    Py_DECREF(origin);
    return handle;
}

/* Have a handle refer to its connection, weakly. */
static int refer(Asking *self, PyObject *handle, PyObject *connection) {
    PyObject *reference = PyWeakref_NewRef(connection, NULL);
    if (reference == NULL) return -1;
    put(handle, self->handle_ref, reference);
    return 0;
}

/* As Client._note_slot. */
static int note_slot(Asking *self, PyObject *const *args, Py_ssize_t Py_UNUSED(count), PyObject *Py_UNUSED(result)) {
    Step *maker = running();
    if (is_named(maker, self->tunnel)) return 0;
    PyObject *handle = NULL;
    int done = nearest(self, maker, &handle);
    if (done == 0) done = located_anew(self, maker, &handle);
    if (done <= 0) return done;
    if (!Py_IS_TYPE(handle, Py_TYPE(self->template))) {
        PyErr_Format(PyExc_TypeError, "%s found, the handle of a slot expected", Py_TYPE(handle)->tp_name);
        Py_DECREF(handle);
        return -1;
    }
    if (get(handle, self->handle_ref) != Py_None) handle = another(self, handle);
    if (handle == NULL) return -1;
    done = refer(self, handle, args[0]);
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

/* Have `end` told of the handle of a connection; where that is NULL, it is released: a brief hold without a name. */
static int ended_by(Asking *self, PyObject *handle, PyObject *connection, PyObject *end) {
    int done = end == NULL ? gave_back_briefly(swift_behind(self), handle) : 0;
    if (done) return done;
    PyObject *told = PyObject_CallFunctionObjArgs(self->keep_name, handle, connection, NULL);
    if (told != NULL) Py_SETREF(told, PyObject_CallOneArg(end == NULL ? swift_behind(self)->release : end, handle));
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

/* As Client._end. */
static int ended_slot(Asking *self, PyObject *thing, PyObject *end) {
    PyObject *handle = slot_closed(self, thing);
    if (handle == NULL) return 0;
    int done = ended_by(self, handle, thing, end);
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
