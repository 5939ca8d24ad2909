/* Reading a text, weighing its features, and what a quality artefact makes of them: what `scanning`, `kernel` and
 * `quality.scorer` do with NumPy, without starting a hundred array operations. tests/unit/classifiers/test_kernel.py
 * holds the two together.
 *
 * Where on the path: `features.extract` calls `Reader.scan` once per text, `scorer` calls `weigh`, `quality.scorer`
 * calls `Ground.logits`.
 *
 * Invariants:
 * 1. A text is at most TEXT_MAX characters (ValueError otherwise), so every array here has a fixed size; what is
 *    written to the caller's arrays is checked against their length first.
 * 2. What a character is, which words ask for an action, how much a position counts come as tables from Python, which
 *    never change; languages and structural flags are judged in Python from the counts that this returns.
 * 3. Sums run in the order of the features, and floats are never contracted (-ffp-contract=off).
 * 4. No state changes after `Reader` and `Ground` were made: threads and interpreters may share them.
 */
#ifndef COE_SOURCES
#define COE_SOURCES "" /* hatch_build.py names the hash of these files */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "_kernel_ground.h"
#include "_kernel_rows.h"
#include "_kernel_text.h"

PyDoc_STRVAR(scan_doc, "scan(text, buckets, values) -> (features, anchors, counts, english, foreign, opens, actions, "
                       "breaks); fills the first features + anchors of the arrays, anchors without a value.");

static PyObject *reader_scan(Reader *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 3 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "scan(text: str, buckets: int64 array, values: float32 array)");
        return NULL;
    }
    const Figures *is = &self->figures;
    Text text;
    memset(text.counts, 0, sizeof text.counts);
    text.words = text.breaks = text.last_line = 0;
    if (PyUnicode_GET_LENGTH(args[0]) > TEXT_MAX) {
        PyErr_Format(PyExc_ValueError, "text has more than %d characters", TEXT_MAX);
        return NULL;
    }
    text.length = (int)PyUnicode_GET_LENGTH(args[0]);
    Py_buffer buckets, values;
    if (view(args[1], &buckets, "buckets", sizeof(int64_t), 1, PyBUF_WRITABLE) < 0) return NULL;
    if (view(args[2], &values, "values", sizeof(float), 1, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&buckets);
        return NULL;
    }
    Found found = {.buckets = buckets.buf, .values = values.buf, .actions = 0};
    found.room = buckets.shape[0] < values.shape[0] ? buckets.shape[0] : values.shape[0];
    fold(self, args[0], &text);
    weigh_positions(self, args[0], &text);
    put_words(self, &text, &found);
    Py_ssize_t words = found.count;
    put_stems(self, &text, &found);
    if (text.has_cjk) put_grams(self, &text, &found);
    Py_ssize_t features = found.count;
    put_anchors(self, &text, &found);
    int fits = found.count <= found.room;
    if (fits) {
        bring_to_length(&found, 0, words);
        bring_to_length(&found, words, features);
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&buckets);
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "%zd features don't fit into arrays of %zd", found.count, found.room);
        return NULL;
    }
    text.counts[((const uint8_t *)self->kinds.buf)[' ']] += 2; /* the blanks that stand before and behind a text */
    PyObject *counts = PyTuple_New(is->kinds);
    for (int kind = 0; counts && kind < is->kinds; kind++) {
        PyObject *count = PyLong_FromLong(text.counts[kind]);
        if (!count) Py_CLEAR(counts);
        else PyTuple_SET_ITEM(counts, kind, count);
    }
    if (!counts) return NULL;
    PyObject *opens = found.has_opening && found.opening >= is->opening_latin ? Py_True : Py_False;
    int actions = 0;
    for (uint32_t left = found.actions >> 1; left; left &= left - 1) actions++;
    return Py_BuildValue("(nnNiiOii)", features, found.count - features, counts, found.english, found.foreign, opens,
                         actions, text.breaks);
}

static void reader_dealloc(Reader *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_buffer *const held[] = {&self->kinds, &self->folds, &self->hints, &self->edge};
    for (size_t one = 0; one < sizeof held / sizeof held[0]; one++)
        if (held[one]->obj) PyBuffer_Release(held[one]);
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
    if (is->kinds > KINDS_MAX || is->han >= is->kinds || is->kana >= is->kinds || is->quotation >= is->kinds) return 0;
    if (is->action_mask > 31 || is->sizes > 255) return 0;
    const uint8_t *kinds = self->kinds.buf;
    for (int point = 0; point < POINTS; point++)
        if (kinds[point] >= is->kinds) return 0;
    return 1;
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"kinds", "folds", "hints", "edge", "figures", "seeds", "weights", NULL};
    PyObject *kinds, *folds, *hints, *edge, *figures;
    unsigned long long base, mix, start, end;
    float payload, quoted, grain;
    if (!PyArg_ParseTupleAndKeywords(args, named, "OOOOO!(KKKK)(fff)", names, &kinds, &folds, &hints, &edge,
                                     &PyDict_Type, &figures, &base, &mix, &start, &end, &payload, &quoted, &grain))
        return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->base = base;
    self->mix = mix;
    self->start_seed = start;
    self->end_seed = end;
    self->payload = payload;
    self->quoted = quoted;
    self->grain = grain;
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
    {Py_tp_doc, "Reader(kinds, folds, hints, edge, figures, seeds, weights): the tables that texts are read by."},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {"classifiers._kernel.Reader", sizeof(Reader), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, reader_slots};

static int prepare(PyObject *module) {
    PyObject *reader = PyType_FromSpec(&reader_spec), *ground = PyType_FromSpec(&ground_spec);
    int added = !reader || !ground || PyModule_AddObjectRef(module, "Reader", reader) < 0 ||
                        PyModule_AddObjectRef(module, "Ground", ground) < 0 ? -1 : 0;
    Py_XDECREF(reader);
    Py_XDECREF(ground);
    if (!added && PyModule_AddIntConstant(module, "TEXT_MAX", TEXT_MAX) < 0) return -1;
    if (!added && PyModule_AddIntConstant(module, "COLUMNS_MAX", COLUMNS_MAX) < 0) return -1;
    return added ? added : PyModule_AddStringConstant(module, "SOURCES", COE_SOURCES);
}

static PyMethodDef functions[] = {
    {"weigh", (PyCFunction)(void (*)(void))weigh, METH_FASTCALL, weigh_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
#ifdef Py_MOD_PER_INTERPRETER_GIL_SUPPORTED
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_MOD_GIL_NOT_USED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "Reading and weighing texts; see the head of _kernel.c.", 0, functions, slots,
    NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
