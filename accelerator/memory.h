/* What code objects are to a site, and which site a few frames are: two open hash tables by identity. */
#ifndef MEMORY_H
#define MEMORY_H

#include <Python.h>
#include <stdint.h>

/* User frames that tell one site from another, at most; as in sites.py. */
#define NEAR_MOST 4

/* Frames of a stack that is kept once for all that have it, at most. */
#define REACH_MOST 16
/* Stacks that are kept; above, they are all forgotten. */
#define STACKS_MOST 20000

enum { UNKNOWN = 0, USER = 1, PLUMBING = 2, ROOT = 3 };

typedef struct {
    PyObject *code; /* owned, so that its address stays its own */
    int role;
} Role;

typedef struct {
    PyObject *kind;
    int length;
    PyObject *code[NEAR_MOST];
    int instruction[NEAR_MOST];
} Key;

typedef struct {
    Key key; /* its objects are owned */
    size_t hash;
    PyObject *site; /* owned; NULL: free */
} Place;

typedef struct {
    int length;
    PyObject *code[REACH_MOST];
    int instruction[REACH_MOST];
} Steps;

typedef struct {
    size_t hash;
    PyObject *stack; /* owned: a tuple of code, instruction, code, ...; NULL: free */
} Kept;

typedef struct {
    Role *roles;
    size_t role_size, role_count;
    Place *places;
    size_t place_size, place_count;
    Kept *kept;
    size_t kept_size, kept_count;
} Memory;

static inline size_t mix(size_t hash, size_t part) {
    hash = (hash ^ part) * (size_t)0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 29);
}

/* Of so many frames, begun with `hash`. */
static inline size_t hash_of(size_t hash, int length, PyObject *const *code, const int *instruction) {
    for (int at = 0; at < length; at++) hash = mix(hash, (size_t)code[at] + (size_t)instruction[at] * 31);
    return hash;
}

static inline int same_steps(PyObject *stack, const Steps *steps) {
    if (PyTuple_GET_SIZE(stack) != 2 * steps->length) return 0;
    for (int at = 0; at < steps->length; at++)
        if (PyTuple_GET_ITEM(stack, 2 * at) != steps->code[at] ||
            PyLong_AsLong(PyTuple_GET_ITEM(stack, 2 * at + 1)) != steps->instruction[at])
            return 0;
    return 1;
}

static inline int same(const Key *one, const Key *other) {
    if (one->kind != other->kind || one->length != other->length) return 0;
    for (int at = 0; at < one->length; at++)
        if (one->code[at] != other->code[at] || one->instruction[at] != other->instruction[at]) return 0;
    return 1;
}

static inline Role *role_place(Role *roles, size_t size, PyObject *code) {
    size_t at = mix(0, (size_t)code) & (size - 1);
    while (roles[at].code != NULL && roles[at].code != code) at = (at + 1) & (size - 1);
    return &roles[at];
}

static inline int role_known(Memory *memory, PyObject *code) {
    return memory->role_size ? role_place(memory->roles, memory->role_size, code)->role : UNKNOWN;
}

static inline Place *site_place(Place *places, size_t size, const Key *key, size_t hash) {
    size_t at = hash & (size - 1);
    while (places[at].site != NULL && (places[at].hash != hash || !same(&places[at].key, key)))
        at = (at + 1) & (size - 1);
    return &places[at];
}

/* Borrowed; NULL if it is not known. */
static inline PyObject *site_known(Memory *memory, const Key *key, size_t hash) {
    return memory->place_size ? site_place(memory->places, memory->place_size, key, hash)->site : NULL;
}

static int grow_roles(Memory *memory) {
    size_t size = memory->role_size ? memory->role_size * 2 : 256;
    Role *roles = PyMem_Calloc(size, sizeof(Role));
    if (roles == NULL) return -1;
    for (size_t at = 0; at < memory->role_size; at++)
        if (memory->roles[at].code != NULL) *role_place(roles, size, memory->roles[at].code) = memory->roles[at];
    PyMem_Free(memory->roles);
    memory->roles = roles;
    memory->role_size = size;
    return 0;
}

static int remember_role(Memory *memory, PyObject *code, int role) {
    if (memory->role_count * 2 >= memory->role_size && grow_roles(memory) < 0) return -1;
    Role *place = role_place(memory->roles, memory->role_size, code);
    if (place->code == NULL) {
        place->code = Py_NewRef(code);
        memory->role_count++;
    }
    place->role = role;
    return 0;
}

static int grow_places(Memory *memory) {
    size_t size = memory->place_size ? memory->place_size * 2 : 64;
    Place *places = PyMem_Calloc(size, sizeof(Place));
    if (places == NULL) return -1;
    for (size_t at = 0; at < memory->place_size; at++) {
        Place *old = &memory->places[at];
        if (old->site != NULL) *site_place(places, size, &old->key, old->hash) = *old;
    }
    PyMem_Free(memory->places);
    memory->places = places;
    memory->place_size = size;
    return 0;
}

static int remember_site(Memory *memory, const Key *key, size_t hash, PyObject *site) {
    if (memory->place_count * 2 >= memory->place_size && grow_places(memory) < 0) return -1;
    Place *place = site_place(memory->places, memory->place_size, key, hash);
    if (place->site != NULL) return 0;
    place->key = *key;
    place->hash = hash;
    place->site = Py_NewRef(site);
    Py_INCREF(key->kind);
    for (int at = 0; at < key->length; at++) Py_INCREF(key->code[at]);
    memory->place_count++;
    return 0;
}

static PyObject *tuple_of(const Steps *steps) {
    PyObject *stack = PyTuple_New(2 * steps->length);
    for (int at = 0; stack != NULL && at < steps->length; at++) {
        PyObject *number = PyLong_FromLong(steps->instruction[at]);
        if (number == NULL) {
            Py_CLEAR(stack);
            break;
        }
        PyTuple_SET_ITEM(stack, 2 * at, Py_NewRef(steps->code[at]));
        PyTuple_SET_ITEM(stack, 2 * at + 1, number);
    }
    return stack;
}

static void forget_kept(Memory *memory) {
    Kept *kept = memory->kept;
    size_t size = memory->kept_size;
    memory->kept = NULL;
    memory->kept_size = memory->kept_count = 0;
    for (size_t at = 0; at < size; at++) Py_XDECREF(kept[at].stack);
    PyMem_Free(kept);
}

static int grow_kept(Memory *memory) {
    if (memory->kept_count >= STACKS_MOST) forget_kept(memory);
    size_t size = memory->kept_size ? memory->kept_size * 2 : 256;
    Kept *kept = PyMem_Calloc(size, sizeof(Kept));
    if (kept == NULL) return -1;
    for (size_t at = 0; at < memory->kept_size; at++) {
        if (memory->kept[at].stack == NULL) continue;
        size_t to = memory->kept[at].hash & (size - 1);
        while (kept[to].stack != NULL) to = (to + 1) & (size - 1);
        kept[to] = memory->kept[at];
    }
    PyMem_Free(memory->kept);
    memory->kept = kept;
    memory->kept_size = size;
    return 0;
}

/* The one tuple of these steps, the caller's reference; NULL with an exception. */
static PyObject *stack_of(Memory *memory, const Steps *steps) {
    if (memory->kept_count * 2 >= memory->kept_size && grow_kept(memory) < 0) return PyErr_NoMemory();
    size_t hash = hash_of(0, steps->length, steps->code, steps->instruction), at = hash & (memory->kept_size - 1);
    for (; memory->kept[at].stack != NULL; at = (at + 1) & (memory->kept_size - 1))
        if (memory->kept[at].hash == hash && same_steps(memory->kept[at].stack, steps)) return Py_NewRef(memory->kept[at].stack);
    PyObject *stack = tuple_of(steps);
    if (stack == NULL) return NULL;
    PyObject_GC_UnTrack(stack); /* of code objects and numbers alone, as the collector would find out */
    memory->kept[at] = (Kept){hash, Py_NewRef(stack)};
    memory->kept_count++;
    return stack;
}

/* What is let go of may run foreign code, which may come back here: the tables are empty by then. */
static void forget_all(Memory *memory) {
    Memory old = *memory;
    memset(memory, 0, sizeof(Memory));
    for (size_t at = 0; at < old.role_size; at++) Py_XDECREF(old.roles[at].code);
    for (size_t at = 0; at < old.place_size; at++) {
        Place *place = &old.places[at];
        if (place->site == NULL) continue;
        Py_DECREF(place->site);
        Py_DECREF(place->key.kind);
        for (int near = 0; near < place->key.length; near++) Py_DECREF(place->key.code[near]);
    }
    PyMem_Free(old.roles);
    PyMem_Free(old.places);
    forget_kept(&old);
}

static int visit_all(Memory *memory, visitproc visit, void *arg) {
    for (size_t at = 0; at < memory->role_size; at++) Py_VISIT(memory->roles[at].code);
    for (size_t at = 0; at < memory->place_size; at++) {
        Place *place = &memory->places[at];
        if (place->site == NULL) continue;
        Py_VISIT(place->site);
        Py_VISIT(place->key.kind);
        for (int near = 0; near < place->key.length; near++) Py_VISIT(place->key.code[near]);
    }
    return 0;
}
#endif
