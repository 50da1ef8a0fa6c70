/* What stands in front of aiohttp's methods: a Stand that binds as methods do, and one object for what all of them note. */
#ifndef ASKED_H
#define ASKED_H

#include "connecting.h"
#include "stand.h"

typedef int (*Note)(Asking *, PyObject *const *args, Py_ssize_t count, PyObject *result);

/* Its `note` is the Asking: what it needs in each call lies together. */
typedef Stand Way;

/* A failure of ours is told, and is none of the host's; -1 with an exception that ends the program. */
static inline int safely(Way *self, const char *where, Note note, PyObject *const *args, Py_ssize_t count, PyObject *result) {
    Asking *asking = (Asking *)self->note;
    if (asking->failed == NULL) return 0; /* it is being collected */
    if (note(asking, args, count, result) >= 0) return 0;
    PyObject *told = tell(asking->failed, where);
    Py_XDECREF(told);
    return told == NULL ? -1 : 0;
}

/* What notes something before the method is called. */
#define BEFORE(name, where, noting) \
    static PyObject *name##_way(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) { \
        Way *self = (Way *)callable; \
        if (is_live(self, flags) && safely(self, where, noting, args, PyVectorcall_NARGS(flags), NULL) < 0) return NULL; \
        return straight(self, args, flags, keywords); \
    }

/* What notes something once it has returned. */
#define AFTER(name, where, noting) \
    static PyObject *name##_way(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) { \
        Way *self = (Way *)callable; \
        PyObject *result = straight(self, args, flags, keywords); \
        if (result == NULL || !is_live(self, flags)) return result; \
        if (safely(self, where, noting, args, PyVectorcall_NARGS(flags), result) < 0) Py_CLEAR(result); \
        return result; \
    }

AFTER(ask, "request", note_request)
AFTER(take, "connection", note_slot)
BEFORE(give_back, "release", note_return)
BEFORE(drop, "finalizer", note_dropped)

static const struct Role { const char *name; vectorcallfunc call; } roles[] = {
    {"ask", ask_way}, {"take", take_way}, {"give_back", give_back_way}, {"drop", drop_way}, {NULL},
};

static PyTypeObject Way_Type = STAND_KIND(Way, stand, NULL, Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                          "Stands in front of a method of aiohttp's, and notes what it does.");

static const struct Role *role_named(const char *name) {
    const struct Role *role = roles;
    while (role->name != NULL && strcmp(role->name, name) != 0) role++;
    if (role->name != NULL) return role;
    PyErr_Format(PyExc_ValueError, "%s found, ask, take, give_back or drop expected", name);
    return NULL;
}

static PyObject *asking_stand(Asking *self, PyObject *args) {
    const char *name;
    PyObject *wrapped, *live;
    if (!PyArg_ParseTuple(args, "sOO!", &name, &wrapped, &PyList_Type, &live)) return NULL;
    if (self->failed == NULL) return collected(), NULL;
    const struct Role *role = role_named(name);
    PyObject *place = role == NULL ? NULL : place_in_module(wrapped);
    Way *way = place == NULL ? NULL : (Way *)Way_Type.tp_alloc(&Way_Type, 0);
    if (way != NULL) {
        begin_stand(way, role->call, wrapped, live, Py_None, place);
        way->note = Py_NewRef((PyObject *)self);
    }
    Py_XDECREF(place);
    return (PyObject *)way;
}

/* -- one object for each instrumentor -- */

static int asking_slots(Asking *self) {
    if ((self->handle_ref = slot(Py_TYPE(self->template), "ref")) < 0) return -1;
    return (self->session_requests = slot((PyTypeObject *)self->session_type, "requests")) < 0 ? -1 : 0;
}

static int asking_fill(Asking *self, PyObject *parts) {
#define PART(name) if ((self->name = given(parts, #name)) == NULL) return -1;
    ASKING_PARTS(PART)
#undef PART
    if (!PyObject_TypeCheck(self->swift, &Swift_Type) || !is_index(self->asked) || !is_index(self->open) ||
        !PyType_Check(self->session_type) || !PyUnicode_Check(self->tunnel) || !PyUnicode_Check(self->finalizer)) {
        PyErr_SetString(PyExc_TypeError, "a part is not of the type that is expected of it");
        return -1;
    }
    return is_handle(swift_behind(self), self->template) && is_plain_type(Py_TYPE(self->template)) ? asking_slots(self) : -1;
}

static int asking_traverse(Asking *self, visitproc visit, void *arg) {
#define PART(name) Py_VISIT(self->name);
    ASKING_PARTS(PART)
#undef PART
    for (int at = 0; at < CODES; at++) Py_VISIT(self->codes[at]);
    return 0;
}

static int asking_clear(Asking *self) {
    Py_CLEAR(self->failed); /* first: the stands ask for it */
#define PART(name) Py_CLEAR(self->name);
    ASKING_PARTS(PART)
#undef PART
    forget_codes(self);
    return 0;
}

static void asking_dealloc(Asking *self) {
    PyObject_GC_UnTrack(self);
    asking_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *asking_new(PyTypeObject *type, PyObject *args, PyObject *parts) {
    return of_parts(type, args, parts, (Fill)asking_fill);
}

static PyMethodDef asking_methods[] = {
    {"stand", (PyCFunction)asking_stand, METH_VARARGS, "Return what stands in front of a method, by what that does."},
    {NULL},
};

static PyTypeObject Asking_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Asking",
    .tp_doc = "What is noted of aiohttp's requests, and of the connector slots that they hold.",
    .tp_basicsize = sizeof(Asking),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = asking_new,
    .tp_traverse = (traverseproc)asking_traverse,
    .tp_clear = (inquiry)asking_clear,
    .tp_dealloc = (destructor)asking_dealloc,
    .tp_methods = asking_methods,
};
#endif
