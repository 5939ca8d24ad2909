/* Reading one text: characters, words, n-grams, anchors, weights of positions. `_kernel.c` and `_kernel_judge.h` use it.
 *
 * The twin of `folding`, `anchors` and `scanning`, in the same order: what a comment there explains is not said again.
 * What a text shows besides, its language and its flags, is in `_kernel_flags.h`.
 */
#ifndef COE_KERNEL_TEXT_H
#define COE_KERNEL_TEXT_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TEXT_MAX 701
#define WORDS_MAX (TEXT_MAX / 2 + 1)
#define POINTS 0x10000
#define ASCII 128
#define NO_POINT 0xFFFFFFFFu /* what stands behind the last character: equal to none */

/* Kinds of characters and other figures that `kernel` hands over; see `alphabet`, `folding`, `features`, `anchors`. */
typedef struct {
    int latin, accented, digit, hangul, other_letter, han, kana, maths, code, question, exclamation, quotation, backtick;
    int backslash, bracket, slash, word_kinds, kinds;
    int stem, at_ends, everywhere, sizes, action_words, action_pairs;
    int action_mask, english_mark, foreign_mark, opening_latin;
    int instruction_min, instruction_max, last_line_max, quotes_max;
    int anchor_words, anchor_cjk, bucket_bits, latin_per_han, accents_max;
} Figures;

static const char *const FIGURE_NAMES[] = {
    "latin", "accented", "digit", "hangul", "other_letter", "han", "kana", "maths", "code", "question", "exclamation",
    "quotation", "backtick", "backslash", "bracket", "slash", "word_kinds", "kinds", "stem", "at_ends", "everywhere",
    "sizes", "action_words", "action_pairs", "action_mask", "english_mark", "foreign_mark", "opening_latin",
    "instruction_min", "instruction_max", "last_line_max", "quotes_max", "anchor_words", "anchor_cjk", "bucket_bits",
    "latin_per_han", "accents_max",
};
enum { FIGURES = sizeof(FIGURE_NAMES) / sizeof(FIGURE_NAMES[0]) };

_Static_assert(sizeof(Figures) == FIGURES * sizeof(int), "every figure has its name");

#define KINDS_MAX 32
#define KINDS_NAMED 16  /* the first figures are kinds */
#define GRAMS_MAX 4     /* sizes of n-grams */
#define ANCHOR_MAX 16   /* rows of one opening or ending */
#define FLAGS_MAX 64
#define FEATURES_MAX (TEXT_MAX * GRAMS_MAX + 3 * ANCHOR_MAX + FLAGS_MAX)
/* Room for any text: a character of Han gives an n-gram of each size, a word a row, a pair and a stem. */

#define BLANKS_AROUND 2 /* a blank stands before and behind a text; the twin counts them, too */

typedef struct {
    PyObject_HEAD
    Py_buffer kinds;  /* (65536,) uint8 */
    Py_buffer folds;  /* (65536,) uint64 */
    Py_buffer hints;  /* (buckets,) uint8 */
    Py_buffer edge;   /* (characters,) float32: the weight of a position by its distance from the nearer end */
    Figures figures;
    uint64_t base, mix, start_seed, end_seed;
    float payload, quoted, grain;
    double kana_share, accent_weight, foreign_margin;
    PyObject *languages; /* a tuple of their names */
} Reader;

/* One text while it is read. Positions are those of the text; words are [begin, end). */
typedef struct {
    int length, words, breaks, first_break, last_line, has_cjk;
    uint8_t seen[ASCII]; /* whether it has each character of ASCII */
    int counts[KINDS_MAX];
    Py_UCS4 points[TEXT_MAX + 1]; /* with NO_POINT behind the last one */
    uint8_t kinds[TEXT_MAX];
    uint64_t folds[TEXT_MAX];
    float edge[TEXT_MAX];
    int begins[WORDS_MAX], ends[WORDS_MAX];
    uint64_t hashes[WORDS_MAX], stems[WORDS_MAX];
} Text;

/* The features of a text, and what its words hint at. */
typedef struct {
    int32_t buckets[FEATURES_MAX];
    float values[FEATURES_MAX];
    int features, count; /* hashed ones, and these with the anchors */
    int english, foreign, opening, has_opening;
    uint32_t actions;
} Found;

static int bucket_of(const Reader *self, uint64_t hash) {
    return (int)((hash * self->mix) >> (64 - self->figures.bucket_bits));
}

static int is_cjk(const Reader *self, int kind) {
    return kind == self->figures.han || kind == self->figures.kana;
}

/* The characters of a string; fails with a TypeError or ValueError. */
static int open_text(PyObject *string, Text *text) {
    if (!PyUnicode_Check(string)) {
        PyErr_SetString(PyExc_TypeError, "a text is needed");
        return -1;
    }
    if (PyUnicode_GET_LENGTH(string) > TEXT_MAX) {
        PyErr_Format(PyExc_ValueError, "text has more than %d characters", TEXT_MAX);
        return -1;
    }
    const int kind = PyUnicode_KIND(string), length = (int)PyUnicode_GET_LENGTH(string);
    const void *data = PyUnicode_DATA(string);
    for (int at = 0; at < length; at++) text->points[at] = PyUnicode_READ(kind, data, at);
    text->points[length] = NO_POINT;
    text->length = length;
    text->words = text->breaks = text->first_break = text->last_line = 0;
    memset(text->counts, 0, sizeof text->counts);
    memset(text->seen, 0, sizeof text->seen);
    return 0;
}

/* Line breaks between the first and the last visible character, the first one of all, where the last line starts. */
static void count_breaks(Text *text) {
    const Py_UCS4 *points = text->points;
    int first = 0, last = text->length - 1, breaks = 0;
    while (first <= last && Py_UNICODE_ISSPACE(points[first])) first++;
    while (last >= first && Py_UNICODE_ISSPACE(points[last])) last--;
    for (int at = first; at <= last; at++) breaks += points[at] == '\n';
    text->breaks = breaks;
    if (!breaks) return;
    for (int at = text->length - 2; at >= 0 && !text->last_line; at--)
        if (points[at] == '\n') text->last_line = at + 1;
    while (points[text->first_break] != '\n') text->first_break++;
}

/* Kinds, folds, words with their hashes and those of their stems. What is looked up often is copied: the compiler has
 * to assume that a byte that is written may be any other one. */
static void fold(const Reader *self, Text *text) {
    const uint8_t *kinds = self->kinds.buf;
    const uint64_t *folds = self->folds.buf, base = self->base;
    const int length = text->length, word_kinds = self->figures.word_kinds, stem = self->figures.stem;
    uint64_t hash = 0, power = 1;
    int begin = -1, words = 0;
    for (int at = 0; at < length; at++) {
        const Py_UCS4 point = text->points[at];
        const uint32_t clipped = point < POINTS ? point : POINTS - 1;
        const uint8_t kind = kinds[clipped];
        const uint64_t folded = folds[clipped];
        if (point < ASCII) text->seen[point] = 1;
        text->kinds[at] = kind;
        text->folds[at] = folded;
        text->counts[kind]++;
        if (kind >= word_kinds) {
            if (begin >= 0) {
                text->ends[words] = at;
                text->hashes[words++] = hash;
                begin = -1;
            }
            continue;
        }
        if (begin < 0) {
            text->begins[words] = begin = at;
            hash = 0;
            power = 1;
        }
        if (at - begin == stem) text->stems[words] = hash;
        hash += folded * power;
        power *= base;
    }
    if (begin >= 0) {
        text->ends[words] = length;
        text->hashes[words++] = hash;
    }
    text->words = words;
    text->has_cjk = text->counts[self->figures.han] + text->counts[self->figures.kana] > 0;
    if (text->seen['\n']) count_breaks(text);
}

/* Where the material begins: behind the first line break or colon that may end a wish; 0 for nowhere. */
static int material(const Reader *self, const Text *text) {
    int high = self->figures.instruction_max < text->length ? self->figures.instruction_max : text->length;
    for (int at = self->figures.instruction_min; at < high; at++) {
        Py_UCS4 point = text->points[at];
        if (point == '\n' || point == 0xFF1A) return at + 1;
        if (point == ':' && at + 1 < high && text->points[at + 1] == ' ') return at + 1;
    }
    return 0;
}

/* Weights of positions: near the ends, less in quotation marks and in material. */
static void weigh_positions(const Reader *self, Text *text) {
    const Figures *is = &self->figures;
    const float *by_distance = self->edge.buf;
    const int length = text->length;
    for (int at = 0; at < (length + 1) / 2; at++) text->edge[at] = by_distance[at];
    for (int at = (length + 1) / 2; at < length; at++) text->edge[at] = by_distance[length - 1 - at];
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
    int begin = material(self, text);
    if (begin) {
        int end = length, left = length - text->last_line;
        if (text->last_line && (text->last_line > begin || left < begin) && left <= is->last_line_max)
            end = text->last_line;
        for (int at = begin; at < end; at++) text->edge[at] *= self->payload;
    }
    /* The table has the grain already, so what is not discounted stays as it is. */
    if (!begin && !text->counts[is->quotation]) return;
    for (int at = 0; at < length; at++) text->edge[at] = rintf(text->edge[at] * self->grain) / self->grain;
}

static void put(Found *found, int bucket, float value) {
    found->buckets[found->count] = bucket;
    found->values[found->count++] = value;
}

/* What a word or gram hints at; its action counts where a wish may stand. */
static uint8_t hint_of(const Reader *self, Found *found, int bucket, int may_act) {
    uint8_t hint = ((const uint8_t *)self->hints.buf)[bucket];
    if (may_act) found->actions |= 1u << (hint & self->figures.action_mask);
    return hint;
}

/* Pairs, words, stems. */
static void put_words(const Reader *self, const Text *text, Found *found) {
    const Figures *is = &self->figures;
    const int words = text->words, pairs = words ? words - 1 : 0, from = words - is->action_words;
    int first_cjk = 0, count = pairs + words;
    while (text->has_cjk && !is_cjk(self, text->kinds[first_cjk])) first_cjk++;
    for (int word = 0; word < pairs; word++) {
        found->buckets[word] = bucket_of(self, text->hashes[word] * self->mix + text->hashes[word + 1]);
        found->values[word] = text->edge[text->begins[word]];
    }
    for (int word = 0; word < words; word++) {
        const int begin = text->begins[word], length = text->ends[word] - begin, bucket = bucket_of(self, text->hashes[word]);
        const uint8_t hint = hint_of(self, found, bucket, word < is->action_words || word >= from);
        found->english += (hint & is->english_mark) != 0;
        found->foreign += (hint & is->foreign_mark) != 0;
        if (begin < first_cjk) {
            found->opening += length;
            found->has_opening |= (hint & is->english_mark) != 0;
        }
        found->buckets[pairs + word] = bucket;
        found->values[pairs + word] = text->edge[begin];
        if (length > is->stem) {
            found->buckets[count] = bucket_of(self, text->stems[word]);
            found->values[count++] = text->edge[begin];
        }
    }
    found->count = count;
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
static void bring_to_length(Found *found, int begin, int end) {
    double total = 0.0;
    for (int at = begin; at < end; at++) total += (double)found->values[at] * (double)found->values[at];
    if (total <= 0.0) return;
    float factor = (float)(1.0 / sqrt(total));
    for (int at = begin; at < end; at++) found->values[at] *= factor;
}

/* How the text or its last line opens: its first words, or its first Han characters when no word stands before them. */
static void put_opening(const Reader *self, const Text *text, Found *found, int begin, int word) {
    const Figures *is = &self->figures;
    int at = text->has_cjk ? begin : text->length;
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
    int at = text->has_cjk ? text->length - 1 : -1;
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

/* All that is hashed of a text that was opened, and what it counts. */
static void read_text(const Reader *self, Text *text, Found *found) {
    found->count = found->english = found->foreign = found->opening = found->has_opening = 0;
    found->actions = 0;
    fold(self, text);
    weigh_positions(self, text);
    put_words(self, text, found);
    const int ahead = text->words ? 2 * text->words - 1 : 0; /* pairs and words are one block */
    if (text->has_cjk) put_grams(self, text, found);
    found->features = found->count;
    put_anchors(self, text, found);
    bring_to_length(found, 0, ahead);
    bring_to_length(found, ahead, found->features);
    text->counts[((const uint8_t *)self->kinds.buf)[' ']] += BLANKS_AROUND;
}

/* How many anchors a text has at most: two openings and an ending. */
static int anchors_max(const Figures *is) {
    const int words = is->anchor_words > 2 ? is->anchor_words : 2;
    return 3 * (words > is->anchor_cjk ? words : is->anchor_cjk);
}

/* How many kinds of action are asked for where a wish may stand; the lowest bit is of words that ask for none. */
static int actions_of(const Found *found) {
    int actions = 0;
    for (uint32_t left = found->actions >> 1; left; left &= left - 1) actions++;
    return actions;
}

#endif
