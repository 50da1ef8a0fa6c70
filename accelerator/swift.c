/* The hot path of crawlo_otel_leaks in C: the same answers as the Python it stands for, sooner. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef Py_GIL_DISABLED
#error "crawlo-otel-leaks-accelerator needs the interpreter lock"
#endif

#include "making.h"
#include "files.h"
#include "lenders.h"
#include "asked.h"

static PyObject *swift_locate(Swift *self, PyObject *const *args, Py_ssize_t count) {
    if (!arguments(self, "locate", count, 2) || !is_handle(self, args[0])) return NULL;
    int done = located(self, args[0], args[1]);
    return done < 0 ? NULL : Py_NewRef(done ? args[0] : Py_None);
}

static PyObject *swift_acquire(Swift *self, PyObject *const *args, Py_ssize_t count) {
    if (!arguments(self, "acquire", count, 2) || !is_handle(self, args[0])) return NULL;
    int done = located(self, args[0], args[1]);
    if (done < 0 || (done && held(self, args[0]) < 0)) return NULL;
    return Py_NewRef(done ? args[0] : Py_None);
}

static PyObject *swift_hold(Swift *self, PyObject *handle) {
    return !whole(self) || !is_handle(self, handle) || held(self, handle) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *swift_enter(Swift *self, PyObject *const *args, Py_ssize_t count) {
    if (!arguments(self, "enter", count, 2) || !is_handle(self, args[0]) || !is_handle(self, args[1])) return NULL;
    return moved(self, args[0], args[1]) < 0 || held(self, args[0]) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *swift_release(Swift *self, PyObject *handle) {
    return !whole(self) || !is_handle(self, handle) || gave_back(self, handle) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *swift_forget(Swift *self, PyObject *Py_UNUSED(none)) {
    forget_all(&self->memory);
    Py_RETURN_NONE;
}

/* -- one object for each tracker -- */

static Py_ssize_t given_number(PyObject *parts, const char *name) {
    PyObject *part = given(parts, name);
    if (part == NULL) return -1;
    Py_ssize_t number = PyNumber_AsSsize_t(part, PyExc_OverflowError);
    Py_DECREF(part);
    return number;
}

static int find_slots(Swift *self) {
    PyTypeObject *type;
    if (!PyType_Check(self->handle_type) || !PyType_Check(self->site_type) || !PyType_Check(self->holds_type)) {
        PyErr_SetString(PyExc_TypeError, "handle_type, site_type and holds_type are expected to be classes");
        return -1;
    }
    type = (PyTypeObject *)self->handle_type;
    if (!is_plain_type(type)) return -1;
#define SLOT(name) if ((self->handle_##name = slot(type, #name)) < 0) return -1;
    HANDLE_SLOTS(SLOT)
#undef SLOT
    type = (PyTypeObject *)self->site_type;
#define SLOT(name) if ((self->site_##name = slot(type, #name)) < 0) return -1;
    SITE_SLOTS(SLOT)
#undef SLOT
    return (self->holds_brief = slot((PyTypeObject *)self->holds_type, "brief")) < 0 ? -1 : 0;
}

static int find_numbers(Swift *self, PyObject *parts) {
#define NUMBER(name) self->name = given_number(parts, #name);
    NUMBER(counted) NUMBER(first) NUMBER(every) NUMBER(depth) NUMBER(near_count) NUMBER(full) NUMBER(by_thread)
#undef NUMBER
    if (PyErr_Occurred()) return -1;
    if (self->near_count < 1 || self->near_count > NEAR_MOST || self->every < 1) {
        PyErr_Format(PyExc_ValueError, "near_count %zd found, 1 to %d expected", self->near_count, NEAR_MOST);
        return -1;
    }
    return 0;
}

static int fill(Swift *self, PyObject *parts) {
#define PART(name) if ((self->name = given(parts, #name)) == NULL) return -1;
    PARTS(PART)
#undef PART
    if (!PyDict_Check(self->young) || !PyDict_Check(self->brief_holds) || !PyList_Check(self->marked) || !PyList_Check(self->scoped)) {
        PyErr_SetString(PyExc_TypeError, "young and brief_holds are expected to be dictionaries, marked and scoped lists");
        return -1;
    }
    return find_slots(self) < 0 ? -1 : find_numbers(self, parts);
}

static int swift_traverse(Swift *self, visitproc visit, void *arg) {
#define PART(name) Py_VISIT(self->name);
    PARTS(PART)
#undef PART
    Py_VISIT(self->owner);
    Py_VISIT(self->end_in.type);
    Py_VISIT(self->name_of_task.type);
    for (Rack *rack = self->racks; rack < self->racks + RACKS; rack++) {
        Py_VISIT(rack->kind);
        Py_VISIT(rack->young);
        Py_VISIT(rack->brief);
    }
    for (Spare *spare = self->spares; spare < self->spares + SPARES; spare++) {
        Py_VISIT(spare->template);
        Py_VISIT(spare->handle);
    }
    return visit_all(&self->memory, visit, arg);
}

static int swift_clear(Swift *self) {
#define PART(name) Py_CLEAR(self->name);
    PARTS(PART)
#undef PART
    self->thread = 0;
    Py_CLEAR(self->owner);
    Py_CLEAR(self->end_in.type);
    Py_CLEAR(self->span_end);
    forget_method(&self->name_of_task);
    for (Rack *rack = self->racks; rack < self->racks + RACKS; rack++) forget_rack(rack);
    for (Spare *spare = self->spares; spare < self->spares + SPARES; spare++) forget_spare(spare);
    forget_all(&self->memory);
    return 0;
}

static void swift_dealloc(Swift *self) {
    PyObject_GC_UnTrack(self);
    swift_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* One of the terms has changed. */
static PyObject *swift_tell(Swift *self, PyObject *const *args, Py_ssize_t count) {
    if (!arguments(self, "tell", count, 2)) return NULL;
#define TERM(name) {#name, &self->name},
    const struct { const char *name; PyObject **place; } terms[] = {TERMS(TERM)};
#undef TERM
    for (size_t at = 0; at < sizeof terms / sizeof *terms; at++) {
        if (!PyUnicode_Check(args[0]) || PyUnicode_CompareWithASCIIString(args[0], terms[at].name)) continue;
        Py_SETREF(*terms[at].place, Py_NewRef(args[1]));
        Py_RETURN_NONE;
    }
    return PyErr_Format(PyExc_ValueError, "%R found, clock, brief or closed expected", args[0]);
}

static PyObject *swift_new(PyTypeObject *type, PyObject *args, PyObject *parts) {
    return of_parts(type, args, parts, (Fill)fill);
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))swift_##name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
    FAST(locate), FAST(acquire), FAST(enter), FAST(tell),
    {"hold", (PyCFunction)swift_hold, METH_O, NULL},
    {"release", (PyCFunction)swift_release, METH_O, NULL},
    {"forget", (PyCFunction)swift_forget, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject Swift_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Swift",
    .tp_doc = "What Tracker and Sites do for each acquire and release, with the parts of one tracker.",
    .tp_basicsize = sizeof(Swift),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = swift_new,
    .tp_traverse = (traverseproc)swift_traverse,
    .tp_clear = (inquiry)swift_clear,
    .tp_dealloc = (destructor)swift_dealloc,
    .tp_methods = methods,
};

static int make_names(void) {
#define NAME(variable, text) if ((variable = PyUnicode_InternFromString(text)) == NULL) return -1;
    NAME(classify_name, "_classify") NAME(at_name, "at")
    NAME(get_name_name, "get_name") NAME(owner_name, "owner")
    NAME(ignored_name, "ignored")
    NAME(buffer_name, "buffer") NAME(raw_name, "raw") NAME(closefd_name, "closefd") NAME(close_name, "close")
    NAME(warn_name, "_dealloc_warn") NAME(outlived_name, "_outlived") NAME(name_name, "name") NAME(fail_name, "fail") NAME(abandon_name, "abandon")
    NAME(dict_name, "__dict__") NAME(wrapped_name, "__wrapped__") NAME(class_name, "__class__")
    NAME(protocol_name, "_protocol")
    NAME(queue_name, "_queue") NAME(con_name, "_con") NAME(aborted_name, "_aborted") NAME(connected_name, "is_connected") NAME(age_name, "_generation")
    NAME(recording_name, "is_recording") NAME(done_name, "done")
#undef NAME
    return 0;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "crawlo_otel_leaks_accelerator", .m_doc = "The hot path of crawlo_otel_leaks, in C.", .m_size = -1,
};

PyMODINIT_FUNC PyInit_crawlo_otel_leaks_accelerator(void) {
    if (make_names() < 0 || PyType_Ready(&Walk_Type) < 0 || PyType_Ready(&Batch_Type) < 0 ||
        PyType_Ready(&Stand_Type) < 0 || PyType_Ready(&Way_Type) < 0 || PyType_Ready(&Lending_Type) < 0) return NULL;
    Ref_Type.tp_base = &_PyWeakref_RefType; /* whose address is no constant everywhere */
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) return NULL;
    if (PyModule_AddType(module, &Swift_Type) < 0 || PyModule_AddType(module, &Shelf_Type) < 0 || PyModule_AddType(module, &Index_Type) < 0 ||
        PyModule_AddType(module, &Times_Type) < 0 || PyModule_AddType(module, &Stand_Type) < 0 || PyModule_AddType(module, &Maker_Type) < 0 ||
        PyModule_AddType(module, &Files_Type) < 0 || PyModule_AddType(module, &Taking_Type) < 0 ||
        PyModule_AddType(module, &Asking_Type) < 0 || PyModule_AddType(module, &Ref_Type) < 0 ||
        PyModule_AddType(module, &Tenure_Type) < 0)
        Py_CLEAR(module);
    return module;
}
