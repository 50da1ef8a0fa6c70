/* What stands in front of a loop's method that makes tasks, and notes each: a Stand that binds as methods do. */
#ifndef MAKING_H
#define MAKING_H

#include "noting.h"
#include "stand.h"

typedef struct {
    Stand stand; /* its `refused` is called with a failure of ours, and raises nothing */
    Swift *swift;
    Noting how;
} Maker;

static PyObject *maker_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Maker *self = (Maker *)callable;
    PyObject *task = straight(&self->stand, args, flags, keywords);
    if (task == NULL || PyList_GET_SIZE(self->stand.live) == 0 || PyVectorcall_NARGS(flags) == 0) return task;
    if (!whole(self->swift) || noted(self->swift, &self->how, task, args[0]) < 0) {
        tell_refused(&self->stand);
        PyErr_Clear(); /* the host has its task */
    }
    return task;
}

static PyObject *maker_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"swift", "wrapped", "live", "notes", "create_task", "root", "reach", "failed", "place", NULL};
    PyObject *swift, *wrapped, *live, *failed, *place;
    Noting how;
    if (!PyArg_ParseTupleAndKeywords(args, named, "O!OO!O!O!O!nOU", names, &Swift_Type, &swift, &wrapped, &PyList_Type, &live,
                                     &Index_Type, &how.notes, &PyCode_Type, &how.create_task, &PyCode_Type, &how.root, &how.reach,
                                     &failed, &place))
        return NULL;
    if (how.reach < 0 || how.reach > REACH_MOST)
        return PyErr_Format(PyExc_ValueError, "%zd frames found, 0 to %d expected", how.reach, REACH_MOST);
    Maker *self = (Maker *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    begin_stand(&self->stand, maker_call, wrapped, live, failed, place);
    self->swift = (Swift *)Py_NewRef(swift);
    self->how = how;
    Py_INCREF(how.notes);
    Py_INCREF(how.create_task);
    Py_INCREF(how.root);
    return (PyObject *)self;
}

static int maker_traverse(Maker *self, visitproc visit, void *arg) {
    Py_VISIT(self->swift);
    Py_VISIT(self->how.notes);
    return stand_traverse(&self->stand, visit, arg);
}

static void maker_dealloc(Maker *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->swift);
    Py_CLEAR(self->how.notes);
    Py_CLEAR(self->how.create_task);
    Py_CLEAR(self->how.root);
    end_stand(&self->stand);
}

static PyTypeObject Maker_Type = STAND_KIND(Maker, maker, maker_new, 0, "Stands in front of a method that makes tasks, and notes each.");
#endif
