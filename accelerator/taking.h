/* PoolBook's own methods in C, each under the name it has there; none lets a failure of ours out. */
#ifndef TAKING_H
#define TAKING_H

#include "pooling.h"

static PyObject *taking_stand(Taking *self, PyObject *args);

static int taking_arguments(Taking *self, const char *name, Py_ssize_t found, Py_ssize_t expected) {
    return self->failed == NULL ? collected() : arguments(swift_of(self), name, found, expected);
}

/* A handle that is located in a frame, NULL: where the running code is; the caller's reference: 1 with one, 0 where it is
   telemetry that asks, -1 with an exception. */
static int asked(Taking *self, PyObject *frame, PyObject **handle) {
    *handle = handle_for(self, frame);
    int done = *handle == NULL || !is_connections(self, *handle) ? -1 : located(swift_of(self), *handle, frame);
    if (done <= 0) Py_CLEAR(*handle);
    return done;
}

static PyObject *taking_ask(Taking *self, PyObject *frame) {
    if (!taking_arguments(self, "ask", 1, 1)) return NULL;
    PyObject *handle;
    int done = asked(self, frame, &handle);
    return done > 0 ? handle : done == 0 ? Py_NewRef(Py_None) : taking_failed(self, "ask");
}

/* Begin to wait, in a frame and for a pool as `asked` and `begun` have them: the handle, or None; NULL with an exception
   that ends the program. */
static PyObject *begun_by(Taking *self, PyObject *thing, PyObject *pool, PyObject *frame) {
    PyObject *handle;
    int done = asked(self, frame, &handle);
    if (done > 0) done = begun(self, thing, pool, handle) < 0 ? -1 : 1;
    if (done > 0) return handle;
    Py_XDECREF(handle);
    return done == 0 ? Py_NewRef(Py_None) : taking_failed(self, "wait");
}

static PyObject *taking_begin(Taking *self, PyObject *const *args, Py_ssize_t count) {
    return taking_arguments(self, "begin", count, 2) ? begun_by(self, args[0], NULL, args[1]) : NULL;
}

/* For whoever called the running function. */
static PyObject *taking_begin_above(Taking *self, PyObject *thing) {
    if (!taking_arguments(self, "begin_above", 1, 1)) return NULL;
    Step *asker = running();
    if (asker != NULL) asker = back(asker);
    int special = asker == NULL ? 1 : asks(self, code_of(asker));
    if (special) return special < 0 ? taking_failed(self, "wait") : PyObject_CallOneArg(self->begin_above, thing);
    return begun_by(self, thing, NULL, NULL);
}

static PyObject *taking_wait_for(Taking *self, PyObject *const *args, Py_ssize_t count) {
    if (!taking_arguments(self, "wait_for", count, 2)) return NULL;
    if (args[1] == Py_None) Py_RETURN_NONE;
    if (!is_connections(self, args[1]) || begun(self, args[0], NULL, args[1]) < 0) return taking_failed(self, "wait");
    return Py_NewRef(args[1]);
}

/* Hold what was waited for: None, or NULL with an exception that ends the program. */
static PyObject *got_by(Taking *self, PyObject *handle, PyObject *connection) {
    int done = is_connections(self, handle) ? got_plainly(self, handle, connection) : -1;
    if (done > 0) Py_RETURN_NONE;
    return done < 0 ? taking_failed(self, "acquire") : PyObject_CallFunctionObjArgs(self->got, handle, connection, NULL);
}

static PyObject *taking_got(Taking *self, PyObject *const *args, Py_ssize_t count) {
    if (!taking_arguments(self, "got", count, 2)) return NULL;
    return args[0] == Py_None ? Py_NewRef(Py_None) : got_by(self, args[0], args[1]);
}

/* End the hold of what was found, with its handle, among those that are out; `found` as `taken_out` tells it. */
static PyObject *closed_for(Taking *self, int found, PyObject *handle) {
    if (found > 0) {
        found = over(self, handle);
        Py_DECREF(handle);
    }
    return found < 0 ? taking_failed(self, "release") : Py_NewRef(Py_None);
}

static PyObject *taking_gave_back(Taking *self, PyObject *connection) {
    if (!taking_arguments(self, "gave_back", 1, 1)) return NULL;
    if (PyDict_GET_SIZE(self->aside)) return PyObject_CallOneArg(self->gave_back, connection);
    PyObject *handle = NULL;
    int found = taken_out(self, connection, 0, &handle);
    return closed_for(self, found, handle);
}

static PyObject *taking_let_go(Taking *self, PyObject *connection) {
    if (!taking_arguments(self, "let_go", 1, 1)) return NULL;
    if (PyDict_GET_SIZE(self->aside)) return PyObject_CallOneArg(self->let_go, connection);
    PyObject *handle = NULL;
    int found = taken_out(self, connection, 0, &handle);
    return found > 0 ? handle : found == 0 ? Py_NewRef(Py_None) : taking_failed(self, "release");
}

static PyObject *taking_end(Taking *self, PyObject *handle) {
    if (!taking_arguments(self, "_end", 1, 1)) return NULL;
    return !is_connections(self, handle) || over(self, handle) < 0 ? taking_failed(self, "release") : Py_NewRef(Py_None);
}

/* An event: the connection comes first, and whatever else there is. */
static PyObject *taking_ended(Taking *self, PyObject *const *args, Py_ssize_t count) {
    if (!taking_arguments(self, "ended", count > 0, 1)) return NULL;
    PyObject *handle = NULL;
    int found = taken_out(self, args[0], 1, &handle);
    return found == 0 ? PyObject_Vectorcall(self->ended, args, count, NULL) : closed_for(self, found, handle);
}

/* Count a use; 1 where who uses it is to be looked at. */
static int used(Taking *self, PyObject *handle) {
    Swift *swift = swift_of(self);
    double now, brief;
    if (count_up(handle, self->handle_uses) < 0) return -1;
    if (tenure(handle)->shared) return 0;
    if (now_is(swift, &now) < 0 || brief_of(swift, &brief) < 0) return -1;
    return now - tenure(handle)->acquired_at >= brief; /* never, of what is not held yet */
}

/* The handle of a connection that is used, the caller's reference; NULL where there is none, or with an exception. Most
   are used again and again until they are given back: the last one's handle is at hand. */
static PyObject *in_use(Taking *self, PyObject *connection) {
    PyObject *handle = self->latest;
    if (handle != NULL && !is_released(handle) && refers_to(get(handle, self->handle_connection), connection))
        return Py_NewRef(handle);
    Py_CLEAR(self->latest);
    handle = indexed(self->handles, connection);
    if (handle == NULL) return NULL;
    if (self->handle_uses < 0 || !PyObject_TypeCheck(handle, Py_TYPE(self->template))) {
        PyErr_Format(PyExc_TypeError, "%s found, a handle that counts its uses expected", Py_TYPE(handle)->tp_name);
        return NULL;
    }
    self->latest = Py_NewRef(handle);
    return Py_NewRef(handle);
}

/* Returns whether there is a handle. */
static PyObject *taking_note_use(Taking *self, PyObject *connection) {
    if (!taking_arguments(self, "note_use", 1, 1)) return NULL;
    PyObject *handle = in_use(self, connection);
    if (handle == NULL) return PyErr_Occurred() ? taking_failed(self, "use") : Py_NewRef(Py_False);
    int done = used(self, handle);
    PyObject *told = done > 0 ? PyObject_CallOneArg(self->use, handle) : NULL;
    Py_DECREF(handle);
    if (done < 0 || (done > 0 && told == NULL)) return taking_failed(self, "use");
    Py_XDECREF(told);
    Py_RETURN_TRUE;
}

/* -- what is asked for, and not awaited yet -- */

static int visit_awaited(Awaited *awaited, visitproc visit, void *arg) {
    Py_VISIT(awaited->by_asked);
    Py_VISIT(awaited->by_asked_before);
    Py_VISIT(awaited->next);
    Inside *known[] = {&awaited->con, &awaited->aborted, &awaited->protocol, &awaited->age, &awaited->current};
    for (size_t at = 0; at < sizeof known / sizeof *known; at++) Py_VISIT(known[at]->type);
    Py_VISIT(awaited->connected.type);
    return 0;
}

static void forget_awaited(Awaited *awaited) {
    Awaited before = *awaited;
    *awaited = (Awaited){NULL};
    Py_XDECREF(before.by_asked);
    Py_XDECREF(before.by_asked_before);
    Py_XDECREF(before.next);
    Inside *known[] = {&before.con, &before.aborted, &before.protocol, &before.age, &before.current};
    for (size_t at = 0; at < sizeof known / sizeof *known; at++) Py_XDECREF(known[at]->type);
    forget_method(&before.connected);
}

static PyObject *taking_tidy(Taking *self, PyObject *Py_UNUSED(none)) {
    PyObject *before = self->awaited.by_asked_before;
    self->awaited.by_asked_before = self->awaited.by_asked;
    self->awaited.by_asked = NULL;
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

/* Keep the handle of who asked by what is to be awaited; -1 with an exception. */
static int keep_asked(Taking *self, PyObject *asked, PyObject *handle) {
    if (self->awaited.by_asked == NULL && (self->awaited.by_asked = PyObject_CallNoArgs((PyObject *)&Index_Type)) == NULL) return -1;
    return table_put((Table *)self->awaited.by_asked, asked, handle);
}

/* The handle of who asked for what is awaited now, which is forgotten; NULL where nobody did. */
static PyObject *asker_of(Taking *self, PyObject *asked) {
    PyObject *late = self->awaited.by_asked, *early = self->awaited.by_asked_before;
    PyObject *handle = late == NULL ? NULL : table_pop((Table *)late, asked);
    PyObject *other = early == NULL ? NULL : table_pop((Table *)early, asked);
    if (handle == NULL) return other;
    Py_XDECREF(other);
    return handle;
}

/* -- one object for each PoolBook -- */

/* The offset of a slot that not every kind of handle has; -1 with an exception where it is no slot. */
static int slot_of_some(PyTypeObject *type, const char *name, Py_ssize_t *offset) {
    int has = PyObject_HasAttrString((PyObject *)type, name);
    *offset = has ? slot(type, name) : -1;
    return has && *offset < 0 ? -1 : 0;
}

static int taking_slots(Taking *self) {
    PyTypeObject *type = (PyTypeObject *)self->handle_type;
#define SLOT(name) if ((self->handle_##name = slot(type, #name)) < 0) return -1;
    TAKING_SLOTS(SLOT)
#undef SLOT
    type = (PyTypeObject *)self->pool_type;
#define SLOT(name) if ((self->pool_##name = slot(type, #name)) < 0) return -1;
    POOL_SLOTS(SLOT)
#undef SLOT
    type = Py_TYPE(self->template);
    const struct { const char *name; Py_ssize_t *place; } some[] = {
        {"uses", &self->handle_uses}, {"waits", &self->handle_waits}, {"opener", &self->handle_opener}};
    for (size_t at = 0; at < sizeof some / sizeof *some; at++)
        if (slot_of_some(type, some[at].name, some[at].place) < 0) return -1;
    return 0;
}

static int taking_fill(Taking *self, PyObject *parts) {
#define PART(name) if ((self->name = given(parts, #name)) == NULL) return -1;
    TAKING_PARTS(PART)
#undef PART
    if (!PyObject_TypeCheck(self->swift, &Swift_Type) || !is_index(self->handles) || !is_index(self->refs) ||
        !is_index(self->pools) || !PyDict_Check(self->aside) || !PyAnySet_Check(self->askers) || !PyType_Check(self->pool_type) ||
        !PyType_Check(self->handle_type)) {
        PyErr_SetString(PyExc_TypeError, "a part is not of the type that is expected of it");
        return -1;
    }
    PyTypeObject *type = Py_TYPE(self->template), *of_all = (PyTypeObject *)swift_of(self)->handle_type;
    if (!PyType_IsSubtype(type, (PyTypeObject *)self->handle_type) || !PyType_IsSubtype((PyTypeObject *)self->handle_type, of_all))
        return PyErr_Format(PyExc_TypeError, "%s found, the handle of a connection expected", type->tp_name), -1;
    return is_plain_type(type) ? taking_slots(self) : -1;
}

static int taking_traverse(Taking *self, visitproc visit, void *arg) {
#define PART(name) Py_VISIT(self->name);
    TAKING_PARTS(PART)
#undef PART
    Py_VISIT(self->latest);
    Py_VISIT(self->inside_of.type);
    Py_VISIT(self->known_in.type);
    return visit_awaited(&self->awaited, visit, arg);
}

static int taking_clear(Taking *self) {
    Py_CLEAR(self->failed); /* first: its methods ask for it */
#define PART(name) Py_CLEAR(self->name);
    TAKING_PARTS(PART)
#undef PART
    Py_CLEAR(self->latest);
    Py_CLEAR(self->inside_of.type);
    Py_CLEAR(self->known_in.type);
    forget_awaited(&self->awaited);
    return 0;
}

static void taking_dealloc(Taking *self) {
    PyObject_GC_UnTrack(self);
    taking_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *taking_new(PyTypeObject *type, PyObject *args, PyObject *parts) {
    return of_parts(type, args, parts, (Fill)taking_fill);
}

#define TAKES(name) {#name, (PyCFunction)(void (*)(void))taking_##name, METH_FASTCALL, NULL}
static PyMethodDef taking_methods[] = {
    TAKES(begin), TAKES(wait_for), TAKES(got), TAKES(ended),
    {"ask", (PyCFunction)taking_ask, METH_O, NULL},
    {"begin_above", (PyCFunction)taking_begin_above, METH_O, NULL},
    {"let_go", (PyCFunction)taking_let_go, METH_O, NULL},
    {"gave_back", (PyCFunction)taking_gave_back, METH_O, NULL},
    {"_end", (PyCFunction)taking_end, METH_O, NULL},
    {"note_use", (PyCFunction)taking_note_use, METH_O, NULL},
    {"tidy", (PyCFunction)taking_tidy, METH_NOARGS, "Forget what was asked for before the last time, and never awaited."},
    {"stand", (PyCFunction)taking_stand, METH_VARARGS, "Return what stands in front of a method, by what that does."},
    {NULL},
};

static PyTypeObject Taking_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Taking",
    .tp_doc = "What a PoolBook does for each connection that is taken and given back.",
    .tp_basicsize = sizeof(Taking),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = taking_new,
    .tp_traverse = (traverseproc)taking_traverse,
    .tp_clear = (inquiry)taking_clear,
    .tp_dealloc = (destructor)taking_dealloc,
    .tp_methods = taking_methods,
};
#endif
