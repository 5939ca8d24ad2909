/* How well models would do on a text: the run-time form of a quality artefact, as `quality.scorer` has it in Python.
 *
 * `Ground.logits` is `QualityModel.logits`: from features to one logit per model, and the trust that they deserve. The
 * twin says why each step is taken. Sums of doubles may differ from it in their last bits, for Python adds with more.
 */
#ifndef COE_KERNEL_GROUND_H
#define COE_KERNEL_GROUND_H
#include <math.h>
#include <stddef.h>

#include "_kernel_rows.h"

#define TINY 1e-9
#define SIGNS 9

enum { SLOTS, ROWS, TABLES, BASE, CENTROIDS, PRIOR, PER_TYPICAL, FAMILIAR, TABLES_HELD };

typedef struct {
    PyObject_HEAD
    Py_buffer held[TABLES_HELD];
    Py_ssize_t topics, linear, dense, clusters, intents, models;
    double temperature, sharpness, gate_low, gate_high, known_low, known_high, always_open;
} Ground;

static double between(double value, double low, double high) {
    double share = (value - low) / fmax(high - low, TINY);
    return fmin(fmax(share, 0.0), 1.0);
}

/* How familiar the ground is: `QualityModel._familiarity`. `logits` are those of `shares` less their maximum. */
static double familiarity(const Ground *self, const float *scores, const double *shares, const double *logits,
                          double total, double length) {
    const double *per_typical = self->held[PER_TYPICAL].buf, *familiar = self->held[FAMILIAR].buf;
    double highest = scores[0], second = self->topics > 1 ? -INFINITY : 0.0, relative_max = -INFINITY;
    double by_relative = 0.0, by_score = 0.0, positive = 0.0, squares = 0.0, certainty = 0.0;
    for (Py_ssize_t topic = 0; topic < self->topics; topic++) {
        double score = scores[topic], relative = score * per_typical[topic];
        if (topic && score > highest) {
            second = highest;
            highest = score;
        } else if (topic && score > second) {
            second = score;
        }
        relative_max = fmax(relative_max, relative);
        by_relative += shares[topic] * relative;
        by_score += shares[topic] * score;
        positive += fmax(score, 0.0);
        squares += score * score;
        certainty += shares[topic] * logits[topic];
    }
    const double signs[SIGNS] = {highest,       relative_max,          by_relative,      by_score, positive,
                                 sqrt(squares), certainty - log(total), highest - second, length};
    double known = familiar[SIGNS];
    for (int sign = 0; sign < SIGNS; sign++) known += signs[sign] * familiar[sign];
    return between(known, self->gate_low, self->gate_high);
}

/* Exponentials of logits less their maximum, in place; returns their sum. `kept` gets the logits that were raised. */
static double exponentials(double *logits, Py_ssize_t count, double *kept) {
    double highest = -INFINITY, total = 0.0;
    for (Py_ssize_t one = 0; one < count; one++) highest = fmax(highest, logits[one]);
    for (Py_ssize_t one = 0; one < count; one++) {
        if (kept) kept[one] = logits[one] - highest;
        logits[one] = exp(logits[one] - highest);
        total += logits[one];
    }
    return total;
}

/* The signals of a point, and the trust beyond what is known of its words. */
static double signals_of(const Ground *self, const float *point, double *found) {
    const float *dense = point + self->topics + self->linear;
    double trust = 1.0, squares = 0.0, logits[COLUMNS_MAX];
    for (Py_ssize_t one = 0; one < self->dense; one++) squares += (double)dense[one] * (double)dense[one];
    const double length = sqrt(squares), *prior = self->held[PRIOR].buf;
    if (self->topics) {
        for (Py_ssize_t topic = 0; topic < self->topics; topic++)
            found[topic] = self->temperature * point[topic] + prior[topic];
        double total = exponentials(found, self->topics, logits);
        for (Py_ssize_t topic = 0; topic < self->topics; topic++) found[topic] /= total;
        if (self->gate_high > self->always_open) trust = familiarity(self, point, found, logits, total, length);
    }
    for (Py_ssize_t one = 0; one < self->linear; one++) found[self->topics + one] = point[self->topics + one];
    double *beside = found + self->topics + self->linear;
    for (Py_ssize_t cluster = 0; cluster < self->clusters; cluster++) {
        const double *centroid = (const double *)self->held[CENTROIDS].buf + cluster * self->dense;
        double product = 0.0;
        for (Py_ssize_t one = 0; one < self->dense; one++) product += centroid[one] * dense[one];
        beside[cluster] = product * (self->sharpness / fmax(length, TINY));
    }
    if (self->clusters) {
        double total = exponentials(beside, self->clusters, NULL);
        for (Py_ssize_t cluster = 0; cluster < self->clusters; cluster++) beside[cluster] /= total;
    }
    return trust;
}

PyDoc_STRVAR(logits_doc, "logits(buckets, values, posterior, language, out) -> trust; `out` (models,) gets the logits, "
                         "`language` is the place of the table.");

static PyObject *ground_logits(Ground *self, PyObject *const *args, Py_ssize_t given) {
    static const char *const names[] = {"buckets", "values", "posterior", "out"};
    static const Py_ssize_t sizes[] = {sizeof(int64_t), sizeof(float), sizeof(double), sizeof(double)};
    if (given != 5) {
        PyErr_SetString(PyExc_TypeError, "logits(buckets, values, posterior, language, out)");
        return NULL;
    }
    Py_ssize_t language = PyLong_AsSsize_t(args[3]);
    if (language == -1 && PyErr_Occurred()) return NULL;
    PyObject *const given_views[] = {args[0], args[1], args[2], args[4]};
    Py_buffer views[4];
    Weighed point;
    int held = 0;
    PyObject *result = NULL;
    for (; held < 4; held++)
        if (view(given_views[held], &views[held], names[held], sizes[held], 1, held == 3 ? PyBUF_WRITABLE : 0) < 0)
            goto done;
    const Py_buffer *tables = &self->held[TABLES];
    if (language < 0 || language >= tables->shape[0] || views[2].shape[0] != self->intents ||
        views[3].shape[0] != self->models) {
        PyErr_SetString(PyExc_ValueError, "a table for the language, a share per intent, a place per model are needed");
        goto done;
    }
    if (add_rows(&point, &views[0], &views[1], &self->held[SLOTS], &self->held[ROWS]) < 0) goto done;
    const double known = between(point.known / fmax(point.all, TINY), self->known_low, self->known_high);
    double found[COLUMNS_MAX], *out = views[3].buf;
    const double trust = known * signals_of(self, point.sums, found);
    const Py_ssize_t plain = self->topics + self->linear + self->clusters, signals = tables->shape[1];
    memcpy(found + plain, views[2].buf, (size_t)self->intents * sizeof(double));
    const double *row = (const double *)tables->buf + language * signals * self->models, *base = self->held[BASE].buf;
    memset(out, 0, (size_t)self->models * sizeof(double));
    for (Py_ssize_t signal = 0; signal < signals; signal++, row += self->models)
        for (Py_ssize_t model = 0; model < self->models; model++) out[model] += found[signal] * row[model];
    for (Py_ssize_t model = 0; model < self->models; model++) out[model] = out[model] * known + base[model];
    result = PyFloat_FromDouble(trust);
done:
    while (held--) PyBuffer_Release(&views[held]);
    return result;
}

static void ground_dealloc(Ground *self) {
    PyTypeObject *type = Py_TYPE(self);
    for (int one = 0; one < TABLES_HELD; one++)
        if (self->held[one].obj) PyBuffer_Release(&self->held[one]);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* Whether the tables are as long as what looks into them assumes. */
static int ground_is_sound(const Ground *self) {
    const Py_buffer *held = self->held;
    const Py_ssize_t counts[] = {self->topics, self->linear, self->dense, self->clusters, self->intents};
    for (size_t one = 0; one < sizeof counts / sizeof counts[0]; one++)
        if (counts[one] < 0 || counts[one] > COLUMNS_MAX) return 0;
    const Py_ssize_t point = self->topics + self->linear + self->dense;
    const Py_ssize_t signals = self->topics + self->linear + self->clusters + self->intents;
    return point <= COLUMNS_MAX && signals <= COLUMNS_MAX && held[ROWS].shape[1] == point &&
           held[TABLES].shape[1] == signals && held[TABLES].shape[2] == self->models &&
           held[CENTROIDS].shape[0] == self->clusters && (!self->clusters || held[CENTROIDS].shape[1] == self->dense) &&
           held[PRIOR].shape[0] == self->topics && held[PER_TYPICAL].shape[0] == self->topics &&
           held[FAMILIAR].shape[0] == SIGNS + 1;
}

static PyObject *ground_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"slots", "rows", "tables", "base", "centroids", "prior", "per_typical", "familiar",
                            "counts", "figures", NULL};
    static const Py_ssize_t sizes[] = {sizeof(int32_t), sizeof(float), 8, 8, 8, 8, 8, 8};
    static const int dimensions[] = {1, 2, 3, 1, 2, 1, 1, 1};
    PyObject *given[TABLES_HELD];
    Ground read = {.models = 0};
    if (!PyArg_ParseTupleAndKeywords(
            args, named, "OOOOOOOO(nnnnn)(ddddddd)", names, &given[SLOTS], &given[ROWS], &given[TABLES], &given[BASE],
            &given[CENTROIDS], &given[PRIOR], &given[PER_TYPICAL], &given[FAMILIAR], &read.topics, &read.linear,
            &read.dense, &read.clusters, &read.intents, &read.temperature, &read.sharpness, &read.gate_low,
            &read.gate_high, &read.known_low, &read.known_high, &read.always_open))
        return NULL;
    Ground *self = (Ground *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    memcpy(&self->topics, &read.topics, sizeof(Ground) - offsetof(Ground, topics));
    for (int one = 0; one < TABLES_HELD; one++) {
        if (view(given[one], &self->held[one], names[one], sizes[one], dimensions[one], 0) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    self->models = self->held[BASE].shape[0];
    if (!ground_is_sound(self)) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, "the tables don't fit together");
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef ground_methods[] = {
    {"logits", (PyCFunction)(void (*)(void))ground_logits, METH_FASTCALL, logits_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ground_slots[] = {
    {Py_tp_doc, "Ground(slots, rows, tables, base, centroids, prior, per_typical, familiar, counts, figures): what a "
                "quality artefact says, unpacked."},
    {Py_tp_new, ground_new},
    {Py_tp_dealloc, ground_dealloc},
    {Py_tp_methods, ground_methods},
    {0, NULL},
};

static PyType_Spec ground_spec = {"classifiers._kernel.Ground", sizeof(Ground), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, ground_slots};

#endif
