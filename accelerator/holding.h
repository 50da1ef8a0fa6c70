/* What Tracker.locate, hold and release do. */
#ifndef HOLDING_H
#define HOLDING_H

#include "sites.h"

/* OpenTelemetry's current context, the caller's reference. */
static PyObject *context_of(Swift *self) {
    if (self->context == Py_None) return PyObject_CallNoArgs(self->get_context);
    PyObject *context = NULL;
    if (PyContextVar_Get(self->context, NULL, &context) < 0) return NULL;
    return context == NULL ? Py_NewRef(Py_None) : context;
}

/* What a context has under a key, borrowed; NULL where it has none, or with an exception. */
static inline PyObject *within(PyObject *context, PyObject *key) {
    return PyDict_Check(context) ? PyDict_GetItemWithError(context, key) : NULL;
}

/* Whether what happens under a context is telemetry's own doing. Most contexts have nothing but a span. */
static int is_ignored(Swift *self, PyObject *context, PyObject *span) {
    if (!PyDict_Check(context) || PyDict_GET_SIZE(context) > (span != NULL)) {
        PyObject *suppressed = within(context, self->suppress_key);
        int ignored = suppressed != NULL ? PyObject_IsTrue(suppressed) : PyErr_Occurred() ? -1 : 0;
        if (ignored) return ignored;
    }
    return self->closed == Py_False ? 0 : PyObject_IsTrue(self->closed);
}

static int ignore(Swift *self) {
    PyObject *ignored = PyObject_GetAttr(self->tracker, ignored_name);
    if (ignored == NULL) return -1;
    PyObject *one = PyLong_FromLong(1), *more = one == NULL ? NULL : PyNumber_Add(ignored, one);
    Py_DECREF(ignored);
    Py_XDECREF(one);
    int done = more == NULL ? -1 : PyObject_SetAttr(self->tracker, ignored_name, more);
    Py_XDECREF(more);
    return done;
}

/* As owner.this_span, by the span that a context has, if any: the caller's reference. */
static PyObject *span_of(Swift *self, PyObject *context, PyObject *span) {
    if (span == NULL) return Py_NewRef(Py_None);
    if ((PyObject *)Py_TYPE(span) == self->plain_span) return PyObject_CallOneArg(self->this_span, context);
    if (PyList_GET_SIZE(self->marked) == 0) return Py_NewRef(span);
    PyObject *caller = NULL;
    int has = look_up(span, self->caller, &caller);
    if (has == 0) return Py_NewRef(span);
    Py_XDECREF(caller);
    return has < 0 ? NULL : PyObject_CallOneArg(self->this_span, context);
}

/* The task that a loop runs, None where it runs none; the caller's reference. */
static PyObject *task_on(Swift *self, PyObject *loop) {
    if (!PyDict_Check(self->current_tasks)) return PyObject_CallOneArg(self->current_task, loop);
    PyObject *task = PyDict_GetItemWithError(self->current_tasks, loop);
    return task == NULL && PyErr_Occurred() ? NULL : Py_NewRef(task == NULL ? Py_None : task);
}

/* The running task, None outside of one; the caller's reference. */
static PyObject *task_of(Swift *self) {
    PyObject *loop = call(self->running_loop);
    if (loop == NULL || loop == Py_None) return loop;
    PyObject *task = task_on(self, loop);
    Py_DECREF(loop);
    return task;
}

/* The current scope, None outside of one; the caller's reference. */
static PyObject *scope_of(Swift *self) {
    PyObject *scope = NULL;
    if (PyList_GET_SIZE(self->scoped) == 0) return Py_NewRef(Py_None);
    if (PyContextVar_Get(self->scope, NULL, &scope) < 0) return NULL;
    return scope == NULL ? Py_NewRef(Py_None) : scope;
}

/* What describes the running thread, the caller's reference; the last one's is at hand. */
static PyObject *thread_of(Swift *self) {
    uint64_t thread = PyThreadState_GetID(PyThreadState_Get());
    if (self->thread == thread) return Py_NewRef(self->owner);
    PyObject *owner = PyObject_GetAttr(self->this_thread, owner_name);
    if (owner != NULL && self->by_thread) {
        self->thread = thread;
        Py_XSETREF(self->owner, Py_NewRef(owner));
    }
    return owner;
}

static int note_task(Swift *self, PyObject *handle) {
    PyObject *task = task_of(self);
    if (task == NULL) return -1;
    if (task == Py_None) {
        put(handle, self->handle_task_name, Py_NewRef(Py_None));
        put(handle, self->handle_task, task);
        return 0;
    }
    PyObject *reference = PyWeakref_NewRef(task, NULL);
    PyObject *name = reference == NULL ? NULL : call_known(&self->name_of_task, task, get_name_name);
    Py_DECREF(task);
    if (name == NULL) {
        Py_XDECREF(reference);
        return -1;
    }
    put(handle, self->handle_task, reference);
    put(handle, self->handle_task_name, name);
    return 0;
}

static int note_owner(Swift *self, PyObject *handle, PyObject *context, PyObject *span) {
    PyObject *own = span_of(self, context, span);
    if (own == NULL) return -1;
    put(handle, self->handle_span, own);
    if (note_task(self, handle) < 0) return -1;
    PyObject *thread = thread_of(self);
    if (thread == NULL) return -1;
    put(handle, self->handle_thread, thread);
    PyObject *scope = scope_of(self);
    if (scope == NULL) return -1;
    put(handle, self->handle_scope, scope);
    return 0;
}

static int note_site(Swift *self, PyObject *handle, Step *step, PyObject *frame) {
    PyObject *kind = kind_of(handle), *site = NULL, *stack = NULL;
    if (kind == NULL) {
        PyErr_SetString(PyExc_TypeError, "a handle without a kind found");
        return -1;
    }
    if (site_at(self, step, frame, kind, &site, &stack) < 0) return -1;
    PyObject *process = get(site, self->site_process);
    tenure(handle)->process = process == Py_True;
    put(handle, self->handle_stack, stack);
    put(handle, self->handle_site, site);
    return 0;
}

/* As `located`, where a frame executes that may be given too. */
static int located_at(Swift *self, PyObject *handle, Step *step, PyObject *frame) {
    PyObject *context = context_of(self);
    if (context == NULL) return -1;
    PyObject *span = within(context, self->span_key);
    int done = span == NULL && PyErr_Occurred() ? -1 : is_ignored(self, context, span);
    if (done == 0) done = note_site(self, handle, step, frame) < 0 || note_owner(self, handle, context, span) < 0 ? -1 : 1;
    else if (done > 0) done = ignore(self);
    Py_DECREF(context);
    return done;
}

/* As Tracker.locate of what is a handle, in the running frame where none is given: 1 located, 0 ignored, -1 with an
   exception. */
static int located(Swift *self, PyObject *handle, PyObject *frame) {
    if (frame == Py_None) return ignore(self);
    if (frame != NULL && !PyFrame_Check(frame)) {
        PyErr_Format(PyExc_TypeError, "%s found, a frame, or None, expected", Py_TYPE(frame)->tp_name);
        return -1;
    }
    return located_at(self, handle, frame == NULL ? running() : begin(frame), frame);
}

/* What the tracker's clock says. */
static PyObject *now_of(Swift *self) {
    if (self->clock == self->monotonic) return PyFloat_FromDouble(monotonic());
    PyObject *clock = Py_NewRef(self->clock), *now = PyObject_CallNoArgs(clock); /* which may change it */
    Py_DECREF(clock);
    return now;
}

static inline double seconds(PyObject *time) { return PyFloat_CheckExact(time) ? PyFloat_AS_DOUBLE(time) : PyFloat_AsDouble(time); }

/* The same as a number, in seconds; -1 with an exception, and all as it was. */
static int now_is(Swift *self, double *now) {
    if (self->clock == self->monotonic) return *now = monotonic(), 0;
    PyObject *told = now_of(self);
    if (told == NULL) return -1;
    double time = seconds(told);
    Py_DECREF(told);
    if (time == -1 && PyErr_Occurred()) return -1;
    return *now = time, 0;
}

static int brief_of(Swift *self, double *brief) {
    *brief = seconds(self->brief);
    return *brief == -1 && PyErr_Occurred() ? -1 : 0;
}

static void forget_rack(Rack *rack) {
    Py_CLEAR(rack->kind);
    Py_CLEAR(rack->young);
    Py_CLEAR(rack->brief);
}

/* Where handles of the kind of one go; NULL where there is no such kind, or with an exception. */
static Rack *rack_of(Swift *self, PyObject *handle) {
    PyObject *kind = kind_of(handle);
    Rack *rack = &self->racks[tenure(handle)->kind % RACKS];
    if (rack->kind == kind || kind == NULL) return kind == NULL ? NULL : rack;
    PyObject *young = PyDict_GetItemWithError(self->young, kind);
    PyObject *brief = young == NULL ? NULL : PyDict_GetItemWithError(self->brief_holds, kind);
    if (brief == NULL) return NULL;
    if (!is_shelf(young) || !is_times(brief)) {
        PyErr_Format(PyExc_TypeError, "%R and %R found, a shelf and times expected", Py_TYPE(young), Py_TYPE(brief));
        return NULL;
    }
    Rack before = *rack;
    *rack = (Rack){Py_NewRef(kind), Py_NewRef(young), Py_NewRef(brief)};
    forget_rack(&before);
    return rack;
}

/* As Tracker.hold. */
static int held(Swift *self, PyObject *handle) {
    PyObject *site = get(handle, self->handle_site);
    Rack *rack = rack_of(self, handle);
    if (site == NULL || rack == NULL) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a handle that was located expected");
        return -1;
    }
    Shelf *young = (Shelf *)rack->young;
    if (now_is(self, &tenure(handle)->acquired_at) < 0 || lay_down(young, handle) < 0) return -1;
    PyObject *before = get(site, self->site_latest);
    *place_of(site, self->site_latest) = Py_NewRef(handle);
    let_go_of(self->spares, before);
    return 0;
}

/* As Tracker.move: what was located for one is another's. */
static int moved(Swift *self, PyObject *handle, PyObject *origin) {
    const Py_ssize_t slots[] = {self->handle_site, self->handle_stack, self->handle_span, self->handle_thread,
                                self->handle_task, self->handle_task_name, self->handle_scope};
    for (size_t at = 0; at < sizeof slots / sizeof *slots; at++) {
        PyObject *value = get(origin, slots[at]);
        if (value == NULL) {
            PyErr_SetString(PyExc_TypeError, "an origin that was located expected");
            return -1;
        }
        put(handle, slots[at], Py_NewRef(value));
    }
    tenure(handle)->process = tenure(origin)->process;
    return 0;
}

/* Keep a duration, in seconds, among others; -1 with an exception. */
static inline int keep(PyObject *durations, double duration) {
    if (durations != NULL && is_times(durations)) return times_keep((Times *)durations, duration);
    PyErr_SetString(PyExc_TypeError, "something else than times found");
    return -1;
}

/* Where brief holds of a handle's site are counted; NULL where this one is to go the long way. */
static PyObject *counter_of(Swift *self, PyObject *handle, Rack *rack) {
    PyObject *site = get(handle, self->handle_site), *holds = site == NULL ? NULL : get(site, self->site_holds);
    return holds == Py_None || ((Times *)rack->brief)->count >= self->counted ? NULL : holds;
}

/* Release a brief hold; 0 where it is none, or the first of its site, and nothing was done yet. */
static int gave_back_briefly(Swift *self, PyObject *handle) {
    Rack *rack = rack_of(self, handle);
    PyObject *holds = rack == NULL ? NULL : counter_of(self, handle, rack);
    if (holds == NULL || isnan(tenure(handle)->acquired_at) || is_released(handle)) return PyErr_Occurred() ? -1 : 0;
    Shelf *young = (Shelf *)rack->young;
    PyObject *brief_ones = rack->brief;
    double now, brief = 0, since = tenure(handle)->acquired_at;
    if (now_is(self, &now) < 0 || brief_of(self, &brief) < 0) return -1;
    int done = now - since < brief ? pick_up(young, handle) : 0;
    if (done <= 0) return done;
    tenure(handle)->released_at = now;
    return count_up(holds, self->holds_brief) < 0 || keep(brief_ones, now - since) < 0 ? -1 : 1;
}

/* As Tracker.release of what is a handle; Python does what is left. */
static int gave_back(Swift *self, PyObject *handle) {
    int done = gave_back_briefly(self, handle);
    if (done) return done;
    PyObject *rest = PyObject_CallOneArg(self->release, handle);
    Py_XDECREF(rest);
    return rest == NULL ? -1 : 1;
}
#endif
