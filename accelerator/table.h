/* Objects by an address, in the order in which they came: what a dictionary by identity does, without a number for each key
   and without a call. */
#ifndef TABLE_H
#define TABLE_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Entries up to which they are simply looked through, from the newest back. */
#define FEW 8

typedef struct {
    PyObject_HEAD
    void **keys;         /* NULL: what was there is taken out */
    PyObject **values;   /* owned */
    Py_ssize_t first, end, size, count; /* the first one's place, that behind the last; room; how many there are */
    uint32_t *index;     /* places, and one more; 0: free. NULL while there is room for few */
    size_t homes;        /* how many there are in the index: half as many again as there is room for */
} Table;

static inline size_t home_of(const Table *self, void *key) {
    uint64_t hash = (uint64_t)((size_t)key >> 4) * 0x9E3779B97F4A7C15u;
    return (size_t)(((hash >> 32) * self->homes) >> 32); /* that share of them: they need be no power of two */
}

static inline size_t next_to(const Table *self, size_t home) { return home + 1 == self->homes ? 0 : home + 1; }

/* How many homes lie from one to another. */
static inline size_t far_from(const Table *self, size_t one, size_t other) {
    return other >= one ? other - one : other + self->homes - one;
}

/* Where a key's place is told in the index, or would be. */
static inline size_t told_at(const Table *self, void *key) {
    size_t at = home_of(self, key);
    while (self->index[at] && self->keys[self->index[at] - 1] != key) at = next_to(self, at);
    return at;
}

/* The place of a key; -1 where it has none. */
static inline Py_ssize_t table_place(const Table *self, void *key) {
    if (self->index != NULL) return (Py_ssize_t)self->index[told_at(self, key)] - 1;
    for (Py_ssize_t at = self->end; at-- > self->first;)
        if (self->keys[at] == key) return at;
    return -1;
}

/* Borrowed; NULL where there is none. */
static inline PyObject *table_get(const Table *self, void *key) {
    Py_ssize_t place = table_place(self, key);
    return place < 0 ? NULL : self->values[place];
}

static void index_all(Table *self) {
    memset(self->index, 0, self->homes * sizeof(uint32_t));
    for (Py_ssize_t at = 0; at < self->end; at++) {
        size_t to = home_of(self, self->keys[at]);
        while (self->index[to]) to = next_to(self, to);
        self->index[to] = (uint32_t)at + 1;
    }
}

static void move_to(Table *self, void **keys, PyObject **values) {
    Py_ssize_t to = 0;
    for (Py_ssize_t at = self->first; at < self->end; at++) {
        if (self->keys[at] == NULL) continue;
        values[to] = self->values[at];
        keys[to++] = self->keys[at];
    }
    PyMem_Free(self->values);
    PyMem_Free(self->keys);
    self->keys = keys;
    self->values = values;
    self->first = 0;
    self->end = to;
}

/* Have room for so many, with no gaps between; -1, and all as it was, where memory is out. */
static int resize(Table *self, Py_ssize_t size) {
    size_t homes = (size_t)size + (size_t)size / 2;
    void **keys = PyMem_Malloc(size * sizeof(void *));
    PyObject **values = PyMem_Malloc(size * sizeof(PyObject *));
    uint32_t *index = size > FEW ? PyMem_Malloc(homes * sizeof(uint32_t)) : NULL;
    if (keys == NULL || values == NULL || (index == NULL && size > FEW) || size >= INT32_MAX) {
        PyMem_Free(values);
        PyMem_Free(keys);
        PyMem_Free(index);
        return -1;
    }
    move_to(self, keys, values);
    PyMem_Free(self->index);
    self->index = index;
    self->homes = homes;
    self->size = size;
    if (index != NULL) index_all(self);
    return 0;
}

/* Keep a value by a key; what was there is let go of. -1 with an exception. */
static inline int table_put(Table *self, void *key, PyObject *value) {
    Py_ssize_t place = table_place(self, key);
    if (place >= 0) {
        PyObject *before = self->values[place];
        self->values[place] = Py_NewRef(value);
        Py_DECREF(before);
        return 0;
    }
    if (self->end == self->size && resize(self, self->count < FEW ? FEW : 2 * self->count) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (self->index != NULL) self->index[told_at(self, key)] = (uint32_t)self->end + 1;
    self->values[self->end] = Py_NewRef(value);
    self->keys[self->end++] = key;
    self->count++;
    return 0;
}

/* Close the gap that a free place in the index makes for those that were put behind it. */
static void close_gap(Table *self, size_t gap) {
    for (size_t at = next_to(self, gap); self->index[at]; at = next_to(self, at)) {
        size_t home = home_of(self, self->keys[self->index[at] - 1]);
        if (far_from(self, home, at) < far_from(self, gap, at)) continue;
        self->index[gap] = self->index[at];
        gap = at;
    }
    self->index[gap] = 0;
}

/* Take a value out: the caller's reference, NULL where there is none. */
static inline PyObject *table_pop(Table *self, void *key) {
    size_t gap = self->index == NULL ? 0 : told_at(self, key);
    Py_ssize_t place = self->index == NULL ? table_place(self, key) : (Py_ssize_t)self->index[gap] - 1;
    if (place < 0) return NULL;
    if (self->index != NULL) close_gap(self, gap);
    PyObject *value = self->values[place];
    self->values[place] = NULL;
    self->keys[place] = NULL;
    self->count--;
    if (self->count == 0) {
        self->first = self->end = 0;
    } else {
        while (self->keys[self->end - 1] == NULL) self->end--;
        while (self->keys[self->first] == NULL) self->first++;
    }
    if (self->size > 64 && self->count < self->size / 8) (void)resize(self, 2 * self->count + FEW); /* a burst is over */
    return value;
}

/* Let go of all: what that runs may come back here, and finds nothing. */
static int table_clear(Table *self) {
    Table before = *self;
    self->keys = NULL;
    self->values = NULL;
    self->index = NULL;
    self->first = self->end = self->size = self->count = 0;
    for (Py_ssize_t at = before.first; at < before.end; at++) Py_XDECREF(before.values[at]);
    PyMem_Free(before.values);
    PyMem_Free(before.keys);
    PyMem_Free(before.index);
    return 0;
}
#endif
