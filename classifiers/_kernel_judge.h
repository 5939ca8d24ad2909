/* From a text to an intent: scanned, weighed and judged in one call, as `judging` does it step by step in Python.
 *
 * Where on the path: `scorer` calls `Judge.judge` once per reading of a text, and `Judge.hear` once per earlier turn.
 *
 * Invariants:
 * 1. Every place is checked when a `Judge` is made, and the tables never change after that.
 * 2. What is worked on lies on the stack: nothing of a text is kept, and threads may share a `Judge`.
 * 3. Sums run in the order of the features, of the turns, of the intents.
 */
#ifndef COE_KERNEL_JUDGE_H
#define COE_KERNEL_JUDGE_H
#include <math.h>
#include <stddef.h>

#include "_kernel_flags.h"
#include "_kernel_reader.h"
#include "_kernel_rows.h"

#define WIDTH 24 /* columns of a row: whole vector registers, the last columns are empty */
#define EARLIER_MAX 8

/* Several columns at once, so that the sums of a row stay in registers; the same products and sums one by one where a
 * compiler knows no vectors. */
#if defined(__GNUC__) || defined(__clang__)
#define LANES 4
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define LANES 1
typedef float Lanes;
#define PREFETCH(address) ((void)0)
#endif

/* Why there is doubt, in the order of `judging.DOUBTS`; a mere follow-up is told in Python. */
enum { SURE, NO_WORDS, FOLLOW_UP, LITTLE_EVIDENCE, FITS_NOTHING, LOW_CONFIDENCE, DOUBTS };

enum { PLACES, WEIGHTS, BIAS, SHAPES, COOLING, THRESHOLDS, ANCHORS, HELD };

typedef struct {
    PyObject_HEAD
    PyObject *reader;
    Py_buffer held[HELD];
    PyObject *doubts; /* a tuple of their names */
    Py_ssize_t intents, named, nothing, mean; /* the intents come first, then difficulty, `named` flags, and so on */
    double flag_value, evidence_min;
} Judge;

/* What one turn says. */
typedef struct {
    float sums[WIDTH];
    uint64_t flags;
} Heard;

/* What only the text that is judged has to tell. */
typedef struct {
    int language, digits;
} Told;

/* Row after row of the known features, times their values. The rows lie far apart, so all are asked for before the
 * first one is added; their places and values take the place of the buckets and values. */
static void add_known(const Judge *self, int32_t *buckets, float *values, int count, float *sums) {
    const int32_t *places = self->held[PLACES].buf;
    const float *weights = self->held[WEIGHTS].buf;
    int known = 0;
    for (int at = 0; at < count; at++) {
        const int32_t place = places[buckets[at]];
        buckets[known] = place;
        values[known] = values[at];
        PREFETCH(weights + (Py_ssize_t)place * WIDTH);
        PREFETCH(weights + (Py_ssize_t)place * WIDTH + WIDTH - 1);
        known += place != 0;
    }
    Lanes added[WIDTH / LANES];
    memcpy(added, sums, sizeof added);
    for (int at = 0; at < known; at++) {
        const Lanes *row = (const Lanes *)(weights + (Py_ssize_t)buckets[at] * WIDTH);
        for (int lane = 0; lane < WIDTH / LANES; lane++) added[lane] += values[at] * row[lane];
    }
    memcpy(sums, added, sizeof added);
}

/* Bits of the flags that a tuple of places names; fails with a TypeError or ValueError. */
static int bits_of(PyObject *places, uint64_t *into) {
    *into = 0;
    if (!PyTuple_Check(places)) {
        PyErr_SetString(PyExc_TypeError, "the context is a tuple of places of flags");
        return -1;
    }
    for (Py_ssize_t one = 0; one < PyTuple_GET_SIZE(places); one++) {
        long flag = PyLong_AsLong(PyTuple_GET_ITEM(places, one));
        if (flag == -1 && PyErr_Occurred()) return -1;
        if (flag < 0 || flag >= FLAGS) {
            PyErr_SetString(PyExc_ValueError, "there is no such flag");
            return -1;
        }
        *into |= BIT(flag);
    }
    return 0;
}

/* Read and weigh one turn; fails with a TypeError or ValueError. */
static int hear(const Judge *self, PyObject *string, PyObject *context, Heard *into, Told *told) {
    const Reader *reader = (const Reader *)self->reader;
    Text text;
    Found found;
    uint64_t around;
    if (bits_of(context, &around) < 0 || open_text(string, &text) < 0) return -1;
    read_text(reader, &text, &found);
    told->language = language_of(reader, &text, &found);
    told->digits = text.counts[reader->figures.digit];
    memset(into, 0, sizeof *into);
    into->flags = flags_of(reader, &text, &found, told->language) | around;
    const float anchor = ((const float *)self->held[ANCHORS].buf)[found.count - found.features];
    for (int at = found.features; at < found.count; at++) found.values[at] = anchor;
    int count = found.count;
    for (int flag = 0; flag < FLAGS; flag++) {
        if (!(into->flags & BIT(flag))) continue;
        found.buckets[count] = (1 << reader->figures.bucket_bits) + flag;
        found.values[count++] = (float)self->flag_value;
    }
    add_known(self, found.buckets, found.values, count, into->sums);
    return 0;
}

PyDoc_STRVAR(hear_doc, "hear(text, context) -> bytes: what an earlier turn says, for `judge`.");

static PyObject *judge_hear(Judge *self, PyObject *const *args, Py_ssize_t given) {
    Heard heard;
    Told told;
    if (given != 2) {
        PyErr_SetString(PyExc_TypeError, "hear(text, context)");
        return NULL;
    }
    if (hear(self, args[0], args[1], &heard, &told) < 0) return NULL;
    return PyBytes_FromStringAndSize((const char *)&heard, sizeof heard);
}

/* Earlier turns behind the last one, and the share of each; returns how many, or -1 with a TypeError or ValueError. */
static int take_earlier(PyObject *shares, PyObject *earlier, Heard *heard, double *share) {
    if (!PyTuple_Check(shares) || !PyTuple_Check(earlier)) {
        PyErr_SetString(PyExc_TypeError, "shares and earlier turns are tuples");
        return -1;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(earlier);
    if (count > EARLIER_MAX || PyTuple_GET_SIZE(shares) != count + 1) {
        PyErr_Format(PyExc_ValueError, "a share for each turn is needed, and at most %d earlier turns", EARLIER_MAX);
        return -1;
    }
    for (Py_ssize_t turn = 0; turn <= count; turn++) {
        share[turn] = PyFloat_AsDouble(PyTuple_GET_ITEM(shares, turn));
        if (share[turn] == -1.0 && PyErr_Occurred()) return -1;
        if (!turn) continue;
        PyObject *said = PyTuple_GET_ITEM(earlier, turn - 1);
        if (!PyBytes_Check(said) || PyBytes_GET_SIZE(said) != sizeof *heard) {
            PyErr_SetString(PyExc_TypeError, "an earlier turn is what `hear` gave");
            return -1;
        }
        memcpy(heard + turn, PyBytes_AS_STRING(said), sizeof *heard);
    }
    return (int)count;
}

/* Exponentials of the logits as shares of their sum, in place; the place of the largest, the first one of equals. */
static Py_ssize_t to_shares(double *logits, Py_ssize_t count) {
    Py_ssize_t best = 0;
    double total = 0.0;
    for (Py_ssize_t one = 1; one < count; one++)
        if (logits[one] > logits[best]) best = one;
    const double highest = logits[best];
    for (Py_ssize_t one = 0; one < count; one++) {
        logits[one] = exp(logits[one] - highest);
        total += logits[one];
    }
    const double part = 1.0 / total;
    for (Py_ssize_t one = 0; one < count; one++) logits[one] *= part;
    return best;
}

/* Why to doubt that an intent is the one; `said` is the evidence for it without what is only shape. */
static int doubt_of(const Judge *self, const Told *told, double said, double nothing, double confidence) {
    if (told->language == UNDETERMINED && !told->digits) return NO_WORDS;
    if (said < self->evidence_min) return LITTLE_EVIDENCE;
    if (nothing > 0.0) return FITS_NOTHING;
    return confidence < ((const double *)self->held[THRESHOLDS].buf)[told->language] ? LOW_CONFIDENCE : SURE;
}

PyDoc_STRVAR(judge_doc, "judge(text, context, shares, earlier) -> (best, doubt, language, digits, level, named, "
                        "posterior, None): `shares` of the text and of each of the `earlier` turns that `hear` heard.");

static PyObject *judge_judge(Judge *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 4) {
        PyErr_SetString(PyExc_TypeError, "judge(text, context, shares, earlier)");
        return NULL;
    }
    Heard heard[1 + EARLIER_MAX];
    Told told;
    double share[1 + EARLIER_MAX], evidence[WIDTH], posterior[WIDTH];
    const int earlier = take_earlier(args[2], args[3], heard, share);
    if (earlier < 0 || hear(self, args[0], args[1], heard, &told) < 0) return NULL;
    for (int column = 0; column < WIDTH; column++) {
        evidence[column] = share[0] * heard[0].sums[column];
        for (int turn = 1; turn <= earlier; turn++) evidence[column] += share[turn] * heard[turn].sums[column];
    }
    const double *bias = self->held[BIAS].buf, *shapes = self->held[SHAPES].buf;
    const double cooling = ((const double *)self->held[COOLING].buf)[told.language];
    for (Py_ssize_t one = 0; one < self->intents; one++) posterior[one] = (evidence[one] + bias[one]) * cooling;
    const Py_ssize_t best = to_shares(posterior, self->intents);
    double said = evidence[best] - evidence[self->mean];
    for (int turn = 0; turn <= earlier; turn++) {
        for (int flag = FIRST_SHAPE; flag < FLAGS; flag++) {
            const double *shape = shapes + flag * WIDTH;
            if (heard[turn].flags & BIT(flag)) said -= share[turn] * (shape[best] - shape[self->mean]);
        }
    }
    const double nothing = evidence[self->nothing] + bias[self->nothing];
    const int doubt = doubt_of(self, &told, said, nothing, posterior[best]);
    unsigned named = heard[0].flags & BIT(FENCE) ? 1 : 0; /* a fence is code, whatever the weights say */
    for (Py_ssize_t one = 0; one < self->named; one++) {
        const Py_ssize_t column = self->intents + 1 + one;
        if (evidence[column] + bias[column] > 0.0) named |= 1u << one;
    }
    PyObject *list = PyList_New(self->intents);
    for (Py_ssize_t one = 0; list && one < self->intents; one++) {
        PyObject *value = PyFloat_FromDouble(posterior[one]);
        if (!value) Py_CLEAR(list);
        else PyList_SET_ITEM(list, one, value);
    }
    if (!list) return NULL;
    const double level = evidence[self->intents] + bias[self->intents];
    PyObject *language = PyTuple_GET_ITEM(((const Reader *)self->reader)->languages, told.language);
    return Py_BuildValue("(nOOidINO)", best, PyTuple_GET_ITEM(self->doubts, doubt), language, told.digits, level, named,
                         list, Py_None);
}

static void judge_dealloc(Judge *self) {
    PyTypeObject *type = Py_TYPE(self);
    for (int one = 0; one < HELD; one++)
        if (self->held[one].obj) PyBuffer_Release(&self->held[one]);
    Py_XDECREF(self->doubts);
    Py_XDECREF(self->reader);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* Whether the tables are as long as what looks into them assumes, and every place is that of a row. */
static int judge_is_sound(const Judge *self) {
    const Py_buffer *held = self->held;
    const Py_ssize_t buckets = ((Py_ssize_t)1 << ((const Reader *)self->reader)->figures.bucket_bits) + FLAGS;
    const int32_t *places = held[PLACES].buf;
    if (self->intents < 1 || self->named < 0 || self->named > WIDTH || self->nothing < 0 || self->mean < 0) return 0;
    if (self->intents > WIDTH || self->intents + 1 + self->named > WIDTH) return 0;
    if (self->nothing >= WIDTH || self->mean >= WIDTH || held[PLACES].shape[0] != buckets) return 0;
    if (held[WEIGHTS].shape[1] != WIDTH || held[SHAPES].shape[0] != FLAGS || held[SHAPES].shape[1] != WIDTH) return 0;
    if (held[ANCHORS].shape[0] <= anchors_max(&((const Reader *)self->reader)->figures)) return 0;
    if (held[BIAS].shape[0] != WIDTH || held[COOLING].shape[0] != LANGUAGES || held[THRESHOLDS].shape[0] != LANGUAGES)
        return 0;
    for (Py_ssize_t bucket = 0; bucket < buckets; bucket++)
        if (places[bucket] < 0 || places[bucket] >= held[WEIGHTS].shape[0]) return 0;
    return 1;
}

static PyObject *judge_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"reader",     "places",  "weights", "bias",    "shapes", "cooling",
                            "thresholds", "anchors", "counts",  "figures", "doubts", NULL};
    static const Py_ssize_t sizes[] = {sizeof(int32_t), sizeof(float), 8, 8, 8, 8, sizeof(float)};
    static const int dimensions[] = {1, 2, 1, 2, 1, 1, 1};
    PyObject *reader, *doubts, *given[HELD];
    Judge read = {.intents = 0};
    if (!PyArg_ParseTupleAndKeywords(args, named, "OOOOOOOO(nnnn)(dd)O!", names, &reader, &given[PLACES], &given[WEIGHTS],
                                     &given[BIAS], &given[SHAPES], &given[COOLING], &given[THRESHOLDS], &given[ANCHORS],
                                     &read.intents, &read.named, &read.nothing, &read.mean, &read.flag_value,
                                     &read.evidence_min, &PyTuple_Type, &doubts))
        return NULL;
    /* A type of its own that nobody can derive from: whatever ends like a `Reader` is one. */
    if (Py_TYPE(reader)->tp_dealloc != (destructor)reader_dealloc) {
        PyErr_SetString(PyExc_TypeError, "reader: a Reader is needed");
        return NULL;
    }
    if (PyTuple_GET_SIZE(doubts) != DOUBTS) {
        PyErr_SetString(PyExc_ValueError, "every doubt needs its name");
        return NULL;
    }
    Judge *self = (Judge *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    memcpy(&self->intents, &read.intents, sizeof(Judge) - offsetof(Judge, intents));
    self->reader = Py_NewRef(reader);
    self->doubts = Py_NewRef(doubts);
    for (int one = 0; one < HELD; one++) {
        if (view(given[one], &self->held[one], names[one + 1], sizes[one], dimensions[one], 0) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    if (!judge_is_sound(self)) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, "the tables don't fit together");
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef judge_methods[] = {
    {"hear", (PyCFunction)(void (*)(void))judge_hear, METH_FASTCALL, hear_doc},
    {"judge", (PyCFunction)(void (*)(void))judge_judge, METH_FASTCALL, judge_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot judge_slots[] = {
    {Py_tp_doc, "Judge(reader, places, weights, bias, shapes, cooling, thresholds, anchors, counts, figures, doubts): an intent "
                "artefact, unpacked, and the reader of its texts."},
    {Py_tp_new, judge_new},
    {Py_tp_dealloc, judge_dealloc},
    {Py_tp_methods, judge_methods},
    {0, NULL},
};

static PyType_Spec judge_spec = {"classifiers._kernel.Judge", sizeof(Judge), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, judge_slots};

#endif
