/* The calling stack, read where the interpreter keeps it: no frame object is made for a look at it. */
#ifndef FRAMES_H
#define FRAMES_H

#include <Python.h>
#include <frameobject.h>

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#define INNER_FRAMES 1
#define Py_BUILD_CORE 1
#include <internal/pycore_frame.h>
#undef Py_BUILD_CORE
typedef _PyInterpreterFrame Step;
#else
typedef PyFrameObject Step;
#endif

/* Frames looked through for the one that is asked about, counted from the running one. */
#define NEARBY 16

#ifdef INNER_FRAMES

static inline int unfinished(Step *step) {
#if PY_VERSION_HEX >= 0x030C0000
    if (step->owner == FRAME_OWNED_BY_CSTACK) return 1;
#endif
    return _PyFrame_IsIncomplete(step);
}

static inline Step *complete(Step *step) {
    while (step != NULL && unfinished(step)) step = step->previous;
    return step;
}

static inline Step *back(Step *step) { return complete(step->previous); }

static inline Step *running(void) {
    PyThreadState *state = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030D0000
    return complete(state->current_frame);
#else
    return complete(state->cframe->current_frame);
#endif
}

/* Of a frame that does not run in this thread now, such as one of a greenlet that waits, what is above may be gone
   from where it was: NULL, and the caller goes the long way. */
static inline Step *begin(PyObject *frame) {
    Step *step = running();
    Step *wanted = ((PyFrameObject *)frame)->f_frame;
    for (int left = NEARBY; step != NULL && left; left--, step = back(step))
        if (step == wanted) return step;
    return NULL;
}

/* A reference of its own is not needed: what runs above us is alive. */
static inline PyObject *code_of(Step *step) {
#if PY_VERSION_HEX >= 0x030D0000
    return step->f_executable;
#else
    return (PyObject *)step->f_code;
#endif
}

static inline int instruction_of(Step *step) { return _PyInterpreterFrame_LASTI(step) * (int)sizeof(_Py_CODEUNIT); }

static inline PyObject *globals_of(Step *step) { return step->f_globals; }

/* What a function was called with first, borrowed; NULL where there is none, a cell where an inner function has it too. */
static inline PyObject *first_local(Step *step) { return ((PyCodeObject *)code_of(step))->co_argcount ? step->localsplus[0] : NULL; }

/* Where a coroutine executes, once it does: within the coroutine itself, so that no other's is there while it lives. */
static inline Step *step_of(PyObject *coroutine) { return (Step *)((PyCoroObject *)coroutine)->cr_iframe; }

#else /* frame objects, which 3.10 has for every call */

#if PY_VERSION_HEX < 0x030B0000
static inline Step *back(Step *step) { return step->f_back; }
static inline PyObject *code_of(Step *step) { return (PyObject *)step->f_code; }
static inline int instruction_of(Step *step) { return step->f_lasti < 0 ? -1 : step->f_lasti * (int)sizeof(_Py_CODEUNIT); }
static inline PyObject *globals_of(Step *step) { return step->f_globals; }
static inline PyObject *first_local(Step *step) { return step->f_code->co_argcount ? step->f_localsplus[0] : NULL; }
static inline Step *running(void) { return PyEval_GetFrame(); }
static inline Step *begin(PyObject *frame) { return (Step *)frame; }
static inline Step *step_of(PyObject *coroutine) { return ((PyCoroObject *)coroutine)->cr_frame; }
#else
#error "crawlo-otel-leaks-accelerator knows the frames of CPython 3.10 to 3.13"
#endif

#endif
#endif
