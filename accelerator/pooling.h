/* What PoolBook records around a pool's methods, where there is nothing unusual; the rest it does itself. */
#ifndef POOLING_H
#define POOLING_H

#include "holding.h"

static PyObject *protocol_name; /* what the connections of more than one library have */

/* What is kept, by the name it is given under. `asker`: names of functions whose handles `new_handle` alone knows;
   `aside`: while there is something in it, all goes the long way; `known_by`: the attribute of a library's pool by
   which it is known, or None; `inside`: that of a connection, or None, with which its handle is found. */
#define TAKING_PARTS(PART) \
    PART(swift) PART(book) PART(template) PART(handles) PART(refs) PART(pools) PART(told_gone) \
    PART(askers) PART(aside) PART(known_by) PART(inside) PART(pool_type) PART(handle_type) \
    PART(new_handle) PART(begin_above) PART(pool_of) PART(got) PART(waited) PART(gave_back) PART(let_go) PART(ended) PART(use) PART(failed)

#define TAKING_SLOTS(SLOT) SLOT(connection) SLOT(pool)
#define POOL_SLOTS(SLOT) SLOT(held) SLOT(waiting) SLOT(waits) SLOT(uses) SLOT(stacked)

/* What lies between a call that asks and what it leads to, for pools of which something to await is asked; waiting.h. */
typedef struct {
    PyObject *by_asked, *by_asked_before; /* handles, by what is awaited: of late, and of before that; or NULL */
    PyObject *next, *holder;              /* the handle that gets what a holder, which is not ours, is about to lend; or NULL */
    Inside con, aborted, protocol, age, current;
    Method connected;
} Awaited;

typedef struct {
    PyObject_HEAD
#define PART(name) PyObject *name;
    TAKING_PARTS(PART)
#undef PART
#define SLOT(name) Py_ssize_t handle_##name;
    TAKING_SLOTS(SLOT)
#undef SLOT
#define SLOT(name) Py_ssize_t pool_##name;
    POOL_SLOTS(SLOT)
#undef SLOT
    Inside inside_of, known_in; /* where connections, and pools, of the last one's type have what they are known by */
    Awaited awaited;
    PyObject *latest; /* the handle that was used last, or NULL */
    Py_ssize_t handle_uses, handle_waits, handle_opener; /* -1 where its handles have none */
} Taking;

static inline Swift *swift_of(Taking *self) { return (Swift *)self->swift; }

static PyObject *taking_failed(Taking *self, const char *where) { return tell(self->failed, where); }

static inline int is_connections(Taking *self, PyObject *thing) {
    if (Py_IS_TYPE(thing, Py_TYPE(self->template)) || PyObject_TypeCheck(thing, (PyTypeObject *)self->handle_type)) return 1;
    PyErr_Format(PyExc_TypeError, "%s found, the handle of a connection expected", Py_TYPE(thing)->tp_name);
    return 0;
}

/* What stands for an object that may be told by one of its attributes alone; the caller's reference. */
static inline PyObject *by(Inside *known, PyObject *thing, PyObject *attribute) {
    return attribute == Py_None ? Py_NewRef(thing) : attribute_of(known, thing, attribute);
}

/* Take a handle off one of a pool's lists, which it may be on. */
static int left(PyObject *pool, Py_ssize_t list, PyObject *handle) {
    if (pool == NULL) {
        PyErr_SetString(PyExc_TypeError, "a handle that has no pool found");
        return -1;
    }
    return unshelve(get(pool, list), handle) < 0 ? -1 : 0;
}

/* -- asking -- */

/* Whether what runs `code` asks for a handle that `new_handle` alone knows; -1 with an exception. */
static inline int asks(Taking *self, PyObject *code) {
    return PySet_GET_SIZE(self->askers) && PyCode_Check(code) ? PySet_Contains(self->askers, ((PyCodeObject *)code)->co_name) : 0;
}

/* A handle for who asks in a frame, NULL: in the running one, which is none of the askers. */
static PyObject *handle_for(Taking *self, PyObject *frame) {
    if (frame != NULL && PyFrame_Check(frame)) {
        PyCodeObject *code = PyFrame_GetCode((PyFrameObject *)frame);
        int special = asks(self, (PyObject *)code);
        Py_DECREF(code);
        if (special) return special < 0 ? NULL : PyObject_CallOneArg(self->new_handle, frame);
    }
    return cloned(swift_of(self)->spares, self->template);
}

/* What stands for a pool, whose reference is taken; NULL with an exception where it does not. */
static PyObject *as_pool(Taking *self, PyObject *pool) {
    if (pool != NULL && !PyObject_TypeCheck(pool, (PyTypeObject *)self->pool_type)) {
        PyErr_Format(PyExc_TypeError, "%s found, a pool of the tracker's expected", Py_TYPE(pool)->tp_name);
        Py_CLEAR(pool);
    }
    return pool;
}

/* The tracker's pool, the caller's reference; NULL where nobody has asked for it yet, or with an exception. */
static PyObject *pool_known(Taking *self, PyObject *thing) {
    PyObject *known = by(&self->known_in, thing, self->known_by), *pool = NULL;
    PyObject *pair = known == NULL ? NULL : indexed(self->pools, known);
    if (pair != NULL && PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2 && refers_to(PyTuple_GET_ITEM(pair, 0), known))
        pool = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    Py_XDECREF(known);
    return as_pool(self, pool);
}

/* The same, made where nobody has asked for it yet. */
static PyObject *pool_for(Taking *self, PyObject *thing) {
    PyObject *pool = pool_known(self, thing);
    return pool != NULL || PyErr_Occurred() ? pool : as_pool(self, PyObject_CallOneArg(self->pool_of, thing));
}

/* As PoolBook.wait_for; `pool` where that is known already, else NULL. */
static int begun(Taking *self, PyObject *thing, PyObject *pool, PyObject *handle) {
    if (now_is(swift_of(self), &tenure(handle)->acquired_at) < 0) return -1;
    pool = pool != NULL ? Py_NewRef(pool) : pool_for(self, thing);
    if (pool == NULL) return -1;
    put(handle, self->handle_pool, pool);
    return shelve(get(pool, self->pool_waiting), handle);
}

/* -- holding -- */

/* The reference by which a handle has its connection, the caller's; made once for a connection that goes in and out. */
static PyObject *reference_to(Taking *self, PyObject *connection) {
    if (self->told_gone == Py_None) return PyWeakref_NewRef(connection, NULL);
    PyObject *known = indexed(self->refs, connection);
    if (known != NULL && refers_to(known, connection)) return Py_NewRef(known);
    PyObject *made = reference_made(connection, self->told_gone);
    if (made != NULL && table_put((Table *)self->refs, connection, made) < 0) Py_CLEAR(made);
    return made;
}

/* As PoolBook.enter. */
static int entered(Taking *self, PyObject *handle, PyObject *pool, PyObject *connection, void *key) {
    PyObject *reference = reference_to(self, connection);
    if (reference == NULL) return -1;
    put(handle, self->handle_connection, reference);
    if (self->handle_opener >= 0) put(handle, self->handle_opener, Py_NewRef(self->book));
    if (held(swift_of(self), handle) < 0) return -1;
    return table_put((Table *)self->handles, key, handle) < 0 ? -1 : shelve(get(pool, self->pool_held), handle);
}

/* Keep the time from one moment to another, both in seconds; NaN: it never came. */
static int noted_time(PyObject *times, double since, double until) {
    return isnan(until - since) ? 0 : keep(times, until - since);
}

/* Wait no more, but hold. */
static int waits_no_more(Taking *self, PyObject *handle, PyObject *connection, void *key) {
    PyObject *pool = get(handle, self->handle_pool);
    double asked_at = tenure(handle)->acquired_at;
    int done = left(pool, self->pool_waiting, handle);
    if (done == 0) done = entered(self, handle, pool, connection, key);
    return done < 0 ? done : noted_time(get(pool, self->pool_waits), asked_at, tenure(handle)->acquired_at);
}

/* 1 done, 0 where it is for PoolBook to say what that means, -1 with an exception. */
static int got_plainly(Taking *self, PyObject *handle, PyObject *connection) {
    if (PyDict_GET_SIZE(self->aside)) return 0;
    PyObject *inner = by(&self->inside_of, connection, self->inside);
    if (inner == NULL) return -1;
    int known = self->inside != Py_None && indexed(self->handles, inner) != NULL;
    int done = known ? 0 : waits_no_more(self, handle, connection, inner) < 0 ? -1 : 1;
    Py_DECREF(inner); /* its connection has it still */
    return done;
}

/* -- giving back -- */

/* As PoolBook._end. */
static int over(Taking *self, PyObject *handle) {
    PyObject *pool = get(handle, self->handle_pool);
    if (self->latest == handle) Py_CLEAR(self->latest);
    if (left(pool, self->pool_held, handle) < 0) return -1;
    put(handle, self->handle_connection, Py_NewRef(Py_None));
    if (gave_back(swift_of(self), handle) < 0) return -1;
    return noted_time(get(pool, self->pool_uses), tenure(handle)->acquired_at, tenure(handle)->released_at);
}

/* Whether a handle's connection is there. */
static int is_there(Taking *self, PyObject *handle) {
    return !refers_to(get(handle, self->handle_connection), NULL);
}

/* The handle of what is given back, which is forgotten: 1 with a reference, 0 where there is none, or where `alive` is
   asked for and what it was taken for is gone; -1 with an exception. */
static int taken_out(Taking *self, PyObject *connection, int alive, PyObject **handle) {
    PyObject *found = indexed(self->handles, connection);
    if (found != NULL && !is_connections(self, found)) return -1;
    if (found == NULL || (alive && !is_there(self, found))) return 0;
    *handle = table_pop((Table *)self->handles, connection);
    return 1;
}
#endif
