/* Sums of rows: features times their weights. `_kernel.c` and `_kernel_ground.h` use it.
 *
 * Invariants: every bucket and place is checked before it is looked up, and sums run in the order of the features.
 */
#ifndef COE_KERNEL_ROWS_H
#define COE_KERNEL_ROWS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define COLUMNS_MAX 512

/* A contiguous buffer of `size` bytes an item and `ndim` dimensions, or a TypeError. What the items are is not asked:
 * the callers are `classifiers` alone, and the sizes differ where a mistake would be easy. */
static int view(PyObject *object, Py_buffer *into, const char *name, Py_ssize_t size, int ndim, int flags) {
    if (PyObject_GetBuffer(object, into, PyBUF_C_CONTIGUOUS | flags) < 0) return -1;
    if (into->itemsize == size && into->ndim == ndim) return 0;
    PyBuffer_Release(into);
    PyErr_Format(PyExc_TypeError, "%s: %d dimensions of %zd bytes are needed", name, ndim, size);
    return -1;
}

/* What `weigh` adds up; fails with an IndexError. */
typedef struct {
    float sums[COLUMNS_MAX];
    double known, all;
} Weighed;

static int add_rows(Weighed *into, const Py_buffer *buckets, const Py_buffer *values, const Py_buffer *places,
                    const Py_buffer *rows) {
    const int64_t *bucket = buckets->buf;
    const float *value = values->buf;
    const int32_t *place = places->buf;
    const Py_ssize_t features = buckets->shape[0], columns = rows->shape[1];
    memset(into, 0, sizeof *into);
    if (values->shape[0] != features || columns > COLUMNS_MAX) {
        PyErr_Format(PyExc_ValueError, "as many values as buckets are needed, and at most %d columns", COLUMNS_MAX);
        return -1;
    }
    for (Py_ssize_t at = 0; at < features; at++) {
        int32_t row = bucket[at] < 0 || bucket[at] >= places->shape[0] ? -1 : place[bucket[at]];
        if (row < 0 || row >= rows->shape[0]) {
            PyErr_SetString(PyExc_IndexError, "a bucket or place is outside of its table");
            return -1;
        }
        double square = (double)value[at] * (double)value[at];
        into->all += square;
        if (!row) continue;
        into->known += square;
        const float *from = (const float *)rows->buf + (Py_ssize_t)row * columns;
        for (Py_ssize_t column = 0; column < columns; column++) into->sums[column] += value[at] * from[column];
    }
    return 0;
}

PyDoc_STRVAR(weigh_doc, "weigh(buckets, values, places, rows) -> (sums, known, all): the sum of value times row over "
                        "the features whose place is not 0, a float per column, and the squares of those and of all.");

static PyObject *weigh(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    static const char *const names[] = {"buckets", "values", "places", "rows"};
    static const Py_ssize_t sizes[] = {sizeof(int64_t), sizeof(float), sizeof(int32_t), sizeof(float)};
    Py_buffer views[4];
    Weighed weighed;
    int held = 0;
    PyObject *result = NULL;
    if (given != 4) {
        PyErr_SetString(PyExc_TypeError, "weigh(buckets, values, places, rows)");
        return NULL;
    }
    for (; held < 4; held++)
        if (view(args[held], &views[held], names[held], sizes[held], held < 3 ? 1 : 2, 0) < 0) goto done;
    if (add_rows(&weighed, &views[0], &views[1], &views[2], &views[3]) < 0) goto done;
    PyObject *list = PyList_New(views[3].shape[1]);
    for (Py_ssize_t column = 0; list && column < views[3].shape[1]; column++) {
        PyObject *sum = PyFloat_FromDouble((double)weighed.sums[column]);
        if (!sum) Py_CLEAR(list);
        else PyList_SET_ITEM(list, column, sum);
    }
    if (list) result = Py_BuildValue("(Ndd)", list, weighed.known, weighed.all);
done:
    while (held--) PyBuffer_Release(&views[held]);
    return result;
}

#endif
