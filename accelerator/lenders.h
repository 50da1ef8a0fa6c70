/* What stands in front of a pool's methods, each under the name of what it does. */
#ifndef LENDERS_H
#define LENDERS_H

#include "waiting.h"

/* What each does, and whether it needs a ContextVar, with which others of the same pool's pass on a handle, and a slot in
   the handle for whether that waits. */
static const struct { const char *name; vectorcallfunc call; int passes_on; } lending_roles[] = {
    {"take", take_call, 0}, {"give_back", give_back_call, 0}, {"end", end_call, 0},   {"use", use_call, 0},
    {"ask", ask_call, 0},   {"wait", wait_call, 1},           {"hold", hold_call, 1}, {NULL},
};

static vectorcallfunc role_of_lending(Taking *self, const char *name, PyObject *detail) {
    int passes_on = PyContextVar_CheckExact(detail) && self->handle_waits >= 0;
    for (int at = 0; lending_roles[at].name != NULL; at++)
        if (strcmp(lending_roles[at].name, name) == 0 && lending_roles[at].passes_on <= passes_on) return lending_roles[at].call;
    PyErr_Format(PyExc_ValueError, "%s with %R found, take, give_back, end, use, ask, or wait or hold with a ContextVar expected", name, detail);
    return NULL;
}

static int lending_traverse(Lending *self, visitproc visit, void *arg) {
    Py_VISIT(self->taking);
    Py_VISIT(self->python);
    Py_VISIT(self->detail);
    Py_VISIT(self->detail_in.type);
    return stand_traverse(&self->stand, visit, arg);
}

static void lending_dealloc(Lending *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->taking);
    Py_CLEAR(self->python);
    Py_CLEAR(self->detail);
    Py_CLEAR(self->detail_in.type);
    end_stand(&self->stand);
}

static PyTypeObject Lending_Type = STAND_KIND(Lending, lending, NULL, Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                              "Stands in front of a pool's method, and notes what it does.");

static PyObject *taking_stand(Taking *self, PyObject *args) {
    const char *name;
    PyObject *wrapped, *live, *python, *detail;
    if (!PyArg_ParseTuple(args, "sOO!OO", &name, &wrapped, &PyList_Type, &live, &python, &detail)) return NULL;
    if (self->failed == NULL) return collected(), NULL;
    vectorcallfunc call = role_of_lending(self, name, detail);
    PyObject *place = call == NULL ? NULL : place_in_module(wrapped);
    Lending *made = place == NULL ? NULL : (Lending *)Lending_Type.tp_alloc(&Lending_Type, 0);
    if (made != NULL) {
        begin_stand(&made->stand, call, wrapped, live, Py_None, place);
        made->taking = (Taking *)Py_NewRef((PyObject *)self);
        made->python = Py_NewRef(python);
        made->detail = Py_NewRef(detail);
    }
    Py_XDECREF(place);
    return (PyObject *)made;
}
#endif
