/* Reading one text: characters, words, n-grams, anchors, weights of positions. `_kernel.c` is its only user.
 *
 * The twin of `folding`, `anchors` and `scanning`, in the same order: what a comment there explains is not said again.
 */
#ifndef COE_KERNEL_TEXT_H
#define COE_KERNEL_TEXT_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

#define TEXT_MAX 701
#define WORDS_MAX (TEXT_MAX / 2 + 1)
#define POINTS 0x10000

/* Kinds of characters and other figures that `kernel` hands over; see `alphabet`, `folding`, `features`, `anchors`. */
typedef struct {
    int word_kinds, han, kana, quotation, kinds;
    int stem, at_ends, everywhere, sizes, action_words, action_pairs;
    int action_mask, english_mark, foreign_mark, opening_latin;
    int instruction_min, instruction_max, last_line_max, quotes_max;
    int anchor_words, anchor_cjk, bucket_bits;
} Figures;

static const char *const FIGURE_NAMES[] = {
    "word_kinds", "han", "kana", "quotation", "kinds", "stem", "at_ends", "everywhere", "sizes", "action_words",
    "action_pairs", "action_mask", "english_mark", "foreign_mark", "opening_latin", "instruction_min",
    "instruction_max", "last_line_max", "quotes_max", "anchor_words", "anchor_cjk", "bucket_bits",
};
enum { FIGURES = sizeof(FIGURE_NAMES) / sizeof(FIGURE_NAMES[0]) };

_Static_assert(sizeof(Figures) == FIGURES * sizeof(int), "every figure has its name");

#define KINDS_MAX 32

typedef struct {
    PyObject_HEAD
    Py_buffer kinds;  /* (65536,) uint8 */
    Py_buffer folds;  /* (65536,) uint64 */
    Py_buffer hints;  /* (buckets,) uint8 */
    Py_buffer edge;   /* (characters,) float32: the weight of a position by its distance from the nearer end */
    Figures figures;
    uint64_t base, mix, start_seed, end_seed;
    float payload, quoted, grain;
} Reader;

/* One text while it is read. Positions are those of the text; words are [begin, end). */
typedef struct {
    int length, words, breaks, last_line, has_cjk;
    int counts[KINDS_MAX];
    uint8_t kinds[TEXT_MAX];
    uint64_t folds[TEXT_MAX];
    float edge[TEXT_MAX];
    int begins[WORDS_MAX], ends[WORDS_MAX];
    uint64_t hashes[WORDS_MAX], stems[WORDS_MAX];
} Text;

/* Where the features of a text go, and what their words hint at. */
typedef struct {
    int64_t *buckets;
    float *values;
    Py_ssize_t room, count;
    int english, foreign, opening, has_opening;
    uint32_t actions;
} Found;

static int bucket_of(const Reader *self, uint64_t hash) {
    return (int)((hash * self->mix) >> (64 - self->figures.bucket_bits));
}

static int is_cjk(const Reader *self, int kind) {
    return kind == self->figures.han || kind == self->figures.kana;
}

/* Kinds, folds, words with their hashes and those of their stems. */
static void fold(const Reader *self, PyObject *string, Text *text) {
    const int kind = PyUnicode_KIND(string);
    const void *data = PyUnicode_DATA(string);
    const uint8_t *kinds = self->kinds.buf;
    const uint64_t *folds = self->folds.buf;
    const Figures *is = &self->figures;
    uint64_t hash = 0, power = 1;
    int inside = 0, first = -1, last = -1;
    for (int at = 0; at < text->length; at++) {
        Py_UCS4 point = PyUnicode_READ(kind, data, at);
        if (!Py_UNICODE_ISSPACE(point)) {
            if (first < 0) first = at;
            last = at;
        }
        uint32_t clipped = point < POINTS ? point : POINTS - 1;
        uint8_t one = kinds[clipped];
        text->kinds[at] = one;
        text->folds[at] = folds[clipped];
        text->counts[one]++;
        if (one >= is->word_kinds) {
            if (inside) {
                text->ends[text->words] = at;
                text->hashes[text->words++] = hash;
                inside = 0;
            }
            continue;
        }
        if (!inside) {
            inside = 1;
            hash = 0;
            power = 1;
            text->begins[text->words] = at;
        }
        if (at - text->begins[text->words] == is->stem) text->stems[text->words] = hash;
        hash += folds[clipped] * power;
        power *= self->base;
    }
    if (inside) {
        text->ends[text->words] = text->length;
        text->hashes[text->words++] = hash;
    }
    text->has_cjk = text->counts[is->han] + text->counts[is->kana] > 0;
    for (int at = first < 0 ? 0 : first; at <= last; at++) text->breaks += PyUnicode_READ(kind, data, at) == '\n';
    for (int at = text->length - 2; text->breaks && at >= 0; at--) {
        if (PyUnicode_READ(kind, data, at) == '\n') {
            text->last_line = at + 1;
            break;
        }
    }
}

/* Where the material begins: behind the first line break or colon that may end a wish; 0 for nowhere. */
static int material(const Reader *self, PyObject *string, const Text *text) {
    const int kind = PyUnicode_KIND(string);
    const void *data = PyUnicode_DATA(string);
    int high = self->figures.instruction_max < text->length ? self->figures.instruction_max : text->length;
    for (int at = self->figures.instruction_min; at < high; at++) {
        Py_UCS4 point = PyUnicode_READ(kind, data, at);
        if (point == '\n' || point == 0xFF1A) return at + 1;
        if (point == ':' && at + 1 < high && PyUnicode_READ(kind, data, at + 1) == ' ') return at + 1;
    }
    return 0;
}

/* Weights of positions: near the ends, less in quotation marks and in material. */
static void weigh_positions(const Reader *self, PyObject *string, Text *text) {
    const Figures *is = &self->figures;
    const float *by_distance = self->edge.buf;
    const int length = text->length;
    for (int at = 0; at < length; at++) text->edge[at] = by_distance[at < length - 1 - at ? at : length - 1 - at];
    if (text->counts[is->quotation]) {
        int at = 0;
        for (int pair = 0; pair < is->quotes_max; pair++) {
            while (at < length && text->kinds[at] != is->quotation) at++;
            int opened = at++;
            while (at < length && text->kinds[at] != is->quotation) at++;
            if (at >= length) break;
            for (int inner = opened; inner < at; inner++) text->edge[inner] *= self->quoted;
            at++;
        }
    }
    int begin = material(self, string, text);
    if (begin) {
        int end = length, left = length - text->last_line;
        if (text->last_line && (text->last_line > begin || left < begin) && left <= is->last_line_max)
            end = text->last_line;
        for (int at = begin; at < end; at++) text->edge[at] *= self->payload;
    }
    for (int at = 0; at < length; at++) text->edge[at] = rintf(text->edge[at] * self->grain) / self->grain;
}

static void put(Found *found, int bucket, float value) {
    if (found->count < found->room) {
        found->buckets[found->count] = bucket;
        found->values[found->count] = value;
    }
    found->count++;
}

/* What a word or gram hints at; its action counts where a wish may stand. */
static uint8_t hint_of(const Reader *self, Found *found, int bucket, int may_act) {
    uint8_t hint = ((const uint8_t *)self->hints.buf)[bucket];
    if (may_act) found->actions |= 1u << (hint & self->figures.action_mask);
    return hint;
}

static void put_words(const Reader *self, const Text *text, Found *found) {
    const Figures *is = &self->figures;
    int first_cjk = 0;
    while (text->has_cjk && !is_cjk(self, text->kinds[first_cjk])) first_cjk++;
    for (int word = 0; word + 1 < text->words; word++) {
        uint64_t joined = text->hashes[word] * self->mix + text->hashes[word + 1];
        put(found, bucket_of(self, joined), text->edge[text->begins[word]]);
    }
    for (int word = 0; word < text->words; word++) {
        int bucket = bucket_of(self, text->hashes[word]);
        int may_act = word < is->action_words || word >= text->words - is->action_words;
        uint8_t hint = hint_of(self, found, bucket, may_act);
        found->english += (hint & is->english_mark) != 0;
        found->foreign += (hint & is->foreign_mark) != 0;
        if (text->begins[word] < first_cjk) {
            found->opening += text->ends[word] - text->begins[word];
            found->has_opening |= (hint & is->english_mark) != 0;
        }
        put(found, bucket, text->edge[text->begins[word]]);
    }
}

static void put_stems(const Reader *self, const Text *text, Found *found) {
    for (int word = 0; word < text->words; word++) {
        if (text->ends[word] - text->begins[word] > self->figures.stem)
            put(found, bucket_of(self, text->stems[word]), text->edge[text->begins[word]]);
    }
}

/* n-grams of Han and kana runs, by size; all of one size everywhere, the others near either end only. */
static void put_grams(const Reader *self, const Text *text, Found *found) {
    const Figures *is = &self->figures;
    uint8_t run[TEXT_MAX]; /* how many Han or kana characters, at most `sizes`, stand from here on */
    for (int at = text->length - 1; at >= 0; at--) {
        int behind = at + 1 < text->length ? run[at + 1] : 0;
        run[at] = !is_cjk(self, text->kinds[at]) ? 0 : behind < is->sizes ? behind + 1 : is->sizes;
    }
    for (int size = 1; size <= is->sizes; size++) {
        int places = text->length - size + 1, grams = 0, seen = 0;
        int skips = size != is->everywhere && places > 2 * is->at_ends;
        for (int at = 0; at < places; at++) grams += run[at] >= size;
        for (int at = 0; at < places; at++) {
            if (run[at] < size) continue;
            int place = seen++;
            if (skips && at >= is->at_ends && at < places - is->at_ends) continue;
            uint64_t hash = 0, power = 1;
            for (int inner = 0; inner < size; inner++, power *= self->base) hash += text->folds[at + inner] * power;
            int bucket = bucket_of(self, hash);
            int may_act = size != is->everywhere || place < is->action_pairs || place >= grams - is->action_pairs;
            hint_of(self, found, bucket, may_act);
            put(found, bucket, text->edge[at]);
        }
    }
}

/* Give the features from `begin` to `end` unit length. The squares are exact, so their order does not matter. */
static void bring_to_length(Found *found, Py_ssize_t begin, Py_ssize_t end) {
    double total = 0.0;
    for (Py_ssize_t at = begin; at < end; at++) total += (double)found->values[at] * (double)found->values[at];
    if (total <= 0.0) return;
    float factor = (float)(1.0 / sqrt(total));
    for (Py_ssize_t at = begin; at < end; at++) found->values[at] *= factor;
}

/* How the text or its last line opens: its first words, or its first Han characters when no word stands before them. */
static void put_opening(const Reader *self, const Text *text, Found *found, int begin, int word) {
    const Figures *is = &self->figures;
    int at = begin;
    while (at < text->length && !is_cjk(self, text->kinds[at])) at++;
    uint64_t hash = 0, power = 1;
    if (at == text->length || (word < text->words && text->begins[word] < at)) {
        for (int last = word + is->anchor_words; word < last && word < text->words; word++) {
            hash = hash * self->mix + text->hashes[word];
            put(found, bucket_of(self, hash ^ self->start_seed), 0.0f);
        }
        return;
    }
    for (int end = at + is->anchor_cjk; at < end && at < text->length && is_cjk(self, text->kinds[at]); at++) {
        hash += text->folds[at] * power;
        power *= self->base;
        put(found, bucket_of(self, hash ^ self->start_seed), 0.0f);
    }
}

/* How the text ends: its last words, or its last Han characters when no word stands behind them. */
static void put_ending(const Reader *self, const Text *text, Found *found) {
    int at = text->length - 1;
    while (at >= 0 && !is_cjk(self, text->kinds[at])) at--;
    if (at >= 0 && (!text->words || text->ends[text->words - 1] <= at)) {
        uint64_t hash = 0;
        for (int end = at - self->figures.anchor_cjk; at > end && at >= 0 && is_cjk(self, text->kinds[at]); at--) {
            hash = hash * self->base + text->folds[at];
            put(found, bucket_of(self, hash ^ self->end_seed), 0.0f);
        }
        return;
    }
    if (!text->words) return;
    uint64_t last = text->hashes[text->words - 1];
    put(found, bucket_of(self, last ^ self->end_seed), 0.0f);
    if (text->words > 1) {
        uint64_t joined = text->hashes[text->words - 2] * self->mix + last;
        put(found, bucket_of(self, joined ^ self->end_seed), 0.0f);
    }
}

static void put_anchors(const Reader *self, const Text *text, Found *found) {
    put_opening(self, text, found, 0, 0);
    if (text->last_line) {
        int word = 0;
        while (word < text->words && text->begins[word] < text->last_line) word++;
        put_opening(self, text, found, text->last_line, word);
    }
    put_ending(self, text, found);
}

#endif
