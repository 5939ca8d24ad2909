/* The tables that texts are read by, and a text as its features: `scanning.scan` in one call.
 *
 * Where on the path: `features.extract` calls `Reader.scan` where the features themselves are wanted; `_kernel_judge.h`
 * reads by a `Reader`'s tables, too.
 */
#ifndef COE_KERNEL_READER_H
#define COE_KERNEL_READER_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_kernel_flags.h"
#include "_kernel_rows.h"
#include "_kernel_text.h"

PyDoc_STRVAR(scan_doc, "scan(text, buckets, values) -> (features, anchors, counts, english, foreign, opens, actions, "
                       "breaks, language, flags); fills the first features + anchors of the arrays, anchors without a "
                       "value.");

static PyObject *reader_scan(Reader *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 3) {
        PyErr_SetString(PyExc_TypeError, "scan(text: str, buckets: int64 array, values: float32 array)");
        return NULL;
    }
    const Figures *is = &self->figures;
    Text text;
    if (open_text(args[0], &text) < 0) return NULL;
    Py_buffer buckets, values;
    if (view(args[1], &buckets, "buckets", sizeof(int64_t), 1, PyBUF_WRITABLE) < 0) return NULL;
    if (view(args[2], &values, "values", sizeof(float), 1, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&buckets);
        return NULL;
    }
    Found found;
    read_text(self, &text, &found);
    const Py_ssize_t room = buckets.shape[0] < values.shape[0] ? buckets.shape[0] : values.shape[0];
    if (found.count <= room) {
        for (int at = 0; at < found.count; at++) ((int64_t *)buckets.buf)[at] = found.buckets[at];
        memcpy(values.buf, found.values, (size_t)found.features * sizeof(float));
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&buckets);
    if (found.count > room) {
        PyErr_Format(PyExc_ValueError, "%d features don't fit into arrays of %zd", found.count, room);
        return NULL;
    }
    PyObject *counts = PyTuple_New(is->kinds);
    for (int kind = 0; counts && kind < is->kinds; kind++) {
        PyObject *count = PyLong_FromLong(text.counts[kind]);
        if (!count) Py_CLEAR(counts);
        else PyTuple_SET_ITEM(counts, kind, count);
    }
    const int language = language_of(self, &text, &found);
    PyObject *flags = places_of(flags_of(self, &text, &found, language));
    if (!counts || !flags) {
        Py_XDECREF(counts);
        Py_XDECREF(flags);
        return NULL;
    }
    return Py_BuildValue("(iiNiiOiiON)", found.features, found.count - found.features, counts, found.english, found.foreign,
                         opens_in_english(self, &found) ? Py_True : Py_False, actions_of(&found), text.breaks,
                         PyTuple_GET_ITEM(self->languages, language), flags);
}

static void reader_dealloc(Reader *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_buffer *const held[] = {&self->kinds, &self->folds, &self->hints, &self->edge};
    for (size_t one = 0; one < sizeof held / sizeof held[0]; one++)
        if (held[one]->obj) PyBuffer_Release(held[one]);
    Py_XDECREF(self->languages);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* The figures out of a dict, all of them whole numbers; every one is needed. */
static int read_figures(Figures *into, PyObject *told) {
    int *at = (int *)into;
    for (int one = 0; one < FIGURES; one++) {
        PyObject *figure = PyDict_GetItemString(told, FIGURE_NAMES[one]);
        if (!figure) {
            PyErr_Format(PyExc_ValueError, "the figure %s is missing", FIGURE_NAMES[one]);
            return -1;
        }
        long value = PyLong_AsLong(figure);
        if (value == -1 && PyErr_Occurred()) return -1;
        if (value < 0 || value > POINTS) {
            PyErr_Format(PyExc_ValueError, "the figure %s is out of range", FIGURE_NAMES[one]);
            return -1;
        }
        at[one] = (int)value;
    }
    return 0;
}

/* Whether the tables are as long as what looks into them assumes. */
static int is_sound(const Reader *self) {
    const Figures *is = &self->figures;
    if (self->kinds.shape[0] != POINTS || self->folds.shape[0] != POINTS || self->edge.shape[0] < TEXT_MAX) return 0;
    if (is->bucket_bits < 1 || is->bucket_bits > 30) return 0;
    if (self->hints.shape[0] != (Py_ssize_t)1 << is->bucket_bits) return 0;
    if (is->kinds > KINDS_MAX) return 0;
    for (int one = 0; one < KINDS_NAMED; one++)
        if (((const int *)is)[one] >= is->kinds) return 0;
    if (is->action_mask > 31 || is->sizes > GRAMS_MAX) return 0;
    if (is->anchor_words > ANCHOR_MAX || is->anchor_cjk > ANCHOR_MAX) return 0;
    const uint8_t *kinds = self->kinds.buf;
    for (int point = 0; point < POINTS; point++)
        if (kinds[point] >= is->kinds) return 0;
    return 1;
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"kinds", "folds", "hints", "edge", "figures", "seeds", "weights", "shares", "flags",
                            "languages", NULL};
    PyObject *kinds, *folds, *hints, *edge, *figures, *flags, *languages;
    unsigned long long base, mix, start, end;
    Reader read = {.base = 0};
    if (!PyArg_ParseTupleAndKeywords(args, named, "OOOOO!(KKKK)(fff)(ddd)OO!", names, &kinds, &folds, &hints, &edge,
                                     &PyDict_Type, &figures, &base, &mix, &start, &end, &read.payload, &read.quoted,
                                     &read.grain, &read.kana_share, &read.accent_weight, &read.foreign_margin, &flags,
                                     &PyTuple_Type, &languages) || !are_named(flags))
        return NULL;
    if (PyTuple_GET_SIZE(languages) != LANGUAGES) {
        PyErr_SetString(PyExc_ValueError, "every language needs its name");
        return NULL;
    }
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    memcpy(&self->base, &read.base, sizeof(Reader) - offsetof(Reader, base));
    self->languages = Py_NewRef(languages);
    self->base = base;
    self->mix = mix;
    self->start_seed = start;
    self->end_seed = end;
    if (view(kinds, &self->kinds, "kinds", 1, 1, 0) < 0 || view(folds, &self->folds, "folds", 8, 1, 0) < 0 ||
        view(hints, &self->hints, "hints", 1, 1, 0) < 0 || view(edge, &self->edge, "edge", 4, 1, 0) < 0 ||
        read_figures(&self->figures, figures) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (!is_sound(self)) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, "the tables don't fit together");
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef reader_methods[] = {
    {"scan", (PyCFunction)(void (*)(void))reader_scan, METH_FASTCALL, scan_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "Reader(kinds, folds, hints, edge, figures, seeds, weights, shares, flags, languages): the tables that "
                "texts are read by."},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {"classifiers._kernel.Reader", sizeof(Reader), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, reader_slots};

#endif
