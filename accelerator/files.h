/* What is done for a file that was opened, and when it is closed: _watcher of files.py, and FileHandle. Its handle is called
   in place of the raw file's own methods; a Files is what is called then, as the `__call__` of the handle's class. */
#ifndef FILES_H
#define FILES_H

#include "holding.h"

#define FILE_PARTS(PART) PART(swift) PART(template) PART(text) PART(fileio) PART(close) PART(warn) PART(gone) PART(buffers)
#define FILE_SLOTS(SLOT) SLOT(name) SLOT(raw) SLOT(buffer) SLOT(ref)

/* Types of buffers. */
#define BUFFERS 3

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
#define PART(name) PyObject *name;
    FILE_PARTS(PART)
#undef PART
#define SLOT(name) Py_ssize_t slot_##name;
    FILE_SLOTS(SLOT)
#undef SLOT
    Inside buffer_of, raw_of[BUFFERS];
} Files;

static PyObject *buffer_name, *raw_name, *closefd_name, *close_name, *warn_name, *outlived_name, *name_name, *fail_name,
    *dict_name, *abandon_name;

/* Count a failure of ours, whose exception is set; the host is not to see it. */
static void failed(Swift *swift, const char *where) {
    PyObject *error = caught(), *place = PyUnicode_FromString(where), *done = NULL;
    if (place != NULL) done = PyObject_CallMethodObjArgs(swift->tracker, fail_name, place, error, NULL);
    if (done == NULL) PyErr_WriteUnraisable(swift->tracker);
    Py_XDECREF(place);
    Py_XDECREF(done);
    Py_XDECREF(error);
}

/* -- its beginning -- */

/* What a raw file has beside its slots, its name for one, the caller's reference. */
static PyObject *attributes_of(PyObject *raw) {
    PyObject **place = _PyObject_GetDictPtr(raw);
    return place != NULL && *place != NULL ? Py_NewRef(*place) : PyObject_GetAttr(raw, dict_name);
}

/* Have a raw file tell its handle of its end. */
static int listen_to(PyObject *raw, PyObject *handle) {
    PyObject *attributes = attributes_of(raw);
    if (attributes == NULL) return -1;
    int done = PyDict_SetItem(attributes, close_name, handle) < 0 ? -1 : PyDict_SetItem(attributes, warn_name, handle);
    Py_DECREF(attributes);
    return done;
}

static int attach(Files *self, PyObject *handle, PyObject *file, PyObject *buffer, PyObject *raw) {
    PyObject *reference = PyWeakref_NewRef(file, handle);
    if (reference == NULL) return -1;
    put(handle, self->slot_raw, Py_NewRef(raw));
    put(handle, self->slot_buffer, Py_NewRef(file == buffer ? Py_None : buffer));
    put(handle, self->slot_ref, reference);
    return listen_to(raw, handle);
}

/* What is below a file, the caller's reference. */
static PyObject *below(const Inside *known, int count, PyObject *file, PyObject *name) {
    while (count && known[count - 1].type != Py_TYPE(file)) count--;
    PyObject *found = count && known[count - 1].offset >= 0 ? get(file, known[count - 1].offset) : NULL;
    return found != NULL ? Py_NewRef(found) : PyObject_GetAttr(file, name);
}

/* The FileIO below a file that closes its descriptor itself; NULL, perhaps with an exception, for any other. */
static PyObject *raw_of(Files *self, PyObject *buffer) {
    PyObject *raw = below(self->raw_of, BUFFERS, buffer, raw_name);
    if (raw == NULL || (PyObject *)Py_TYPE(raw) != self->fileio) {
        Py_XDECREF(raw);
        return NULL;
    }
    PyObject *closes = PyObject_GetAttr(raw, closefd_name);
    int yes = closes == NULL ? -1 : PyObject_IsTrue(closes);
    Py_XDECREF(closes);
    if (yes > 0) return raw;
    Py_DECREF(raw);
    return NULL;
}

static int watched(Files *self, PyObject *file, PyObject *buffer) {
    Swift *swift = (Swift *)self->swift;
    PyObject *raw = raw_of(self, buffer);
    if (raw == NULL) return PyErr_Occurred() ? -1 : 0;
    PyObject *handle = cloned(swift->spares, self->template);
    int done = handle == NULL ? -1 : running() == NULL ? 0 : located(swift, handle, NULL);
    if (done > 0) done = held(swift, handle) < 0 ? -1 : attach(self, handle, file, buffer, raw);
    Py_XDECREF(handle);
    Py_DECREF(raw);
    return done;
}

static PyObject *files_watch(Files *self, PyObject *file) {
    if (self->swift == NULL || !whole((Swift *)self->swift)) return NULL;
    PyObject *buffer = (PyObject *)Py_TYPE(file) == self->text ? below(&self->buffer_of, 1, file, buffer_name) : Py_NewRef(file);
    if (buffer == NULL || watched(self, file, buffer) < 0) failed((Swift *)self->swift, "open");
    Py_XDECREF(buffer);
    Py_RETURN_NONE;
}

/* -- its end -- */

/* As FileHandle.let_go: whether it listened until now. */
static int let_go(Files *self, PyObject *handle, PyObject *raw) {
    PyObject *attributes = attributes_of(raw), *buffer = get(handle, self->slot_buffer);
    if (attributes == NULL) return -1;
    put(handle, self->slot_ref, Py_NewRef(self->gone));
    *place_of(handle, self->slot_buffer) = Py_NewRef(Py_None);
    PyObject *name = PyDict_GetItemWithError(attributes, name_name);
    if (name != NULL) put(handle, self->slot_name, Py_NewRef(name));
    int listened = PyErr_Occurred() ? -1 : removed(attributes, warn_name);
    if (listened >= 0) listened = removed(attributes, close_name);
    Py_DECREF(attributes);
    Py_XDECREF(buffer); /* which may be the last reference, where there is no text any more */
    return listened;
}

static void end_of(Files *self, PyObject *handle, PyObject *raw) {
    int listened = let_go(self, handle, raw);
    if (listened > 0 && !is_released(handle)) listened = gave_back((Swift *)self->swift, handle);
    if (listened < 0) failed((Swift *)self->swift, "close");
}

/* As FileHandle.close; `raw` is the handle's. */
static PyObject *closed(Files *self, PyObject *handle, PyObject *raw) {
    if (self->swift != NULL && whole((Swift *)self->swift)) end_of(self, handle, raw);
    PyErr_Clear();
    put(handle, self->slot_raw, Py_NewRef(Py_None));
    return PyObject_CallOneArg(self->close, raw);
}

/* As FileHandle.__call__, and what CPython does then. */
static PyObject *dropped(Files *self, PyObject *handle, PyObject *raw, PyObject *source) {
    Swift *swift = (Swift *)self->swift;
    if (swift != NULL && whole(swift)) {
        PyObject *told = PyObject_CallMethodOneArg(swift->tracker, abandon_name, handle);
        if (told == NULL) failed(swift, "close");
        Py_XDECREF(told);
    }
    PyErr_Clear();
    return PyObject_CallFunctionObjArgs(self->warn, raw, source, NULL);
}

/* Called as raw.close(), as raw._dealloc_warn(source), or with the reference to what the user had, which is gone. */
static PyObject *files_called(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    Files *self = (Files *)callable;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (count < 1 || count > 2 || keywords != NULL || !Py_IS_TYPE(args[0], Py_TYPE(self->template)))
        return PyErr_Format(PyExc_TypeError, "%zd arguments found, the handle of a file, and what tells of its end, expected", count);
    if (count == 2 && args[1] == get(args[0], self->slot_ref)) return PyObject_CallMethodOneArg(args[0], outlived_name, args[1]);
    PyObject *raw = Py_XNewRef(get(args[0], self->slot_raw));
    if (raw == NULL || raw == Py_None) return raw == NULL ? Py_NewRef(Py_None) : raw;
    Py_INCREF(self); /* the file lets go of us on the way */
    PyObject *handle = Py_NewRef(args[0]), *result = count == 1 ? closed(self, handle, raw) : dropped(self, handle, raw, args[1]);
    Py_DECREF(raw);
    Py_DECREF(handle);
    Py_DECREF(self);
    return result;
}

static PyObject *files_bound(PyObject *self, PyObject *handle, PyObject *Py_UNUSED(type)) {
    return handle == NULL || handle == Py_None ? Py_NewRef(self) : PyMethod_New(self, handle);
}

/* -- one object for each tracker -- */

/* Where objects of a type have what is below them; -1 with an exception. */
static int find_inside(Inside *inside, PyObject *type, const char *name) {
    if (!PyType_Check(type)) return PyErr_Format(PyExc_TypeError, "%R found, a type expected", type), -1;
    *inside = (Inside){(PyTypeObject *)type, member((PyTypeObject *)type, name), -1, 0};
    return PyErr_Occurred() ? -1 : 0;
}

static int find_below(Files *self) {
    if (!PyTuple_Check(self->buffers) || PyTuple_GET_SIZE(self->buffers) != BUFFERS)
        return PyErr_Format(PyExc_TypeError, "%R found, a tuple of %d types expected", self->buffers, BUFFERS), -1;
    for (int at = 0; at < BUFFERS; at++)
        if (find_inside(&self->raw_of[at], PyTuple_GET_ITEM(self->buffers, at), "raw") < 0) return -1;
    return find_inside(&self->buffer_of, self->text, "buffer");
}

static int files_fill(Files *self, PyObject *parts) {
#define PART(name) if ((self->name = given(parts, #name)) == NULL) return -1;
    FILE_PARTS(PART)
#undef PART
    if (!Py_IS_TYPE(self->swift, &Swift_Type)) return PyErr_Format(PyExc_TypeError, "%R found, a Swift expected", self->swift), -1;
    PyTypeObject *type = Py_TYPE(self->template);
    self->vectorcall = files_called;
    if (!is_handle((Swift *)self->swift, self->template) || !is_plain_type(type) || find_below(self) < 0) return -1;
#define SLOT(name) if ((self->slot_##name = slot(type, #name)) < 0) return -1;
    FILE_SLOTS(SLOT)
#undef SLOT
    return 0;
}

static PyObject *files_new(PyTypeObject *type, PyObject *args, PyObject *parts) {
    return of_parts(type, args, parts, (Fill)files_fill);
}

static int files_traverse(Files *self, visitproc visit, void *arg) {
#define PART(name) Py_VISIT(self->name);
    FILE_PARTS(PART)
#undef PART
    return 0;
}

/* Not cleared by the collector either: what it refers to is, and the last file may still be closed through it. */
static void files_dealloc(Files *self) {
    PyObject_GC_UnTrack(self);
#define PART(name) Py_XDECREF(self->name);
    FILE_PARTS(PART)
#undef PART
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef files_methods[] = {{"watch", (PyCFunction)files_watch, METH_O, NULL}, {NULL}};

static PyTypeObject Files_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "crawlo_otel_leaks_accelerator.Files",
    .tp_doc = "What is done for each file that is opened.",
    .tp_basicsize = sizeof(Files),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_vectorcall_offset = offsetof(Files, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = files_bound,
    .tp_new = files_new,
    .tp_traverse = (traverseproc)files_traverse,
    .tp_dealloc = (destructor)files_dealloc,
    .tp_methods = files_methods,
};
#endif
