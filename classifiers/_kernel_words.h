/* What `sayings`, `dressing` and `compound` look for in a line, in one pass over it instead of a search per saying.
 *
 * Where on the path: texts that are read again, and requests that are read in parts. The twins are in those modules;
 * what a comment there explains is not said again.
 *
 * Invariants:
 * 1. Nothing is read behind the end of a text, however long it is, and nothing of it is kept.
 * 2. A blank, a digit, a letter is what Python's own `re` takes for one.
 */
#ifndef COE_KERNEL_WORDS_H
#define COE_KERNEL_WORDS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define NOWHERE ((Py_UCS4)-1) /* what stands before and behind a text: equal to none */
#define HEADS 1024
#define SAYINGS_MAX 1024
#define HAN_FIRST 0x4E00
#define HAN_LAST 0x9FFF

/* The characters of a string. */
typedef struct {
    int kind;
    const void *data;
    Py_ssize_t length;
} Line;

static int open_line(PyObject *string, Line *line) {
    if (!PyUnicode_Check(string)) {
        PyErr_SetString(PyExc_TypeError, "a text is needed");
        return -1;
    }
    line->kind = PyUnicode_KIND(string);
    line->data = PyUnicode_DATA(string);
    line->length = PyUnicode_GET_LENGTH(string);
    return 0;
}

static Py_UCS4 on(const Line *line, Py_ssize_t at) {
    return at < 0 || at >= line->length ? NOWHERE : PyUnicode_READ(line->kind, line->data, at);
}

static int is_blank(Py_UCS4 point) { return point != NOWHERE && Py_UNICODE_ISSPACE(point); }
static int is_digit(Py_UCS4 point) { return point != NOWHERE && Py_UNICODE_ISDECIMAL(point); }
/* Letters and digits; those of ASCII, most of all characters, without asking the Unicode database. */
static int is_plain(Py_UCS4 point) { return point < 128 && Py_ISALNUM(point); }
static int is_alnum(Py_UCS4 point) { return is_plain(point) || (point != NOWHERE && Py_UNICODE_ISALNUM(point)); }
static int is_han(Py_UCS4 point) { return point >= HAN_FIRST && point <= HAN_LAST; }

/* Whether a character is one of an ASCII or wide string that ends with 0. */
static int is_one_of(Py_UCS4 point, const Py_UCS4 *these) {
    while (*these && *these != point) these++;
    return *these != 0;
}

/* Sayings by their first two characters: those whose two come to the same number are a chain. */
typedef struct {
    PyObject_HEAD
    PyObject *said; /* a tuple of str */
    int begin_words;
    uint16_t heads[HEADS], next[SAYINGS_MAX + 1]; /* places in `said`, from 1 on; 0 ends a chain */
} Sayings;

static unsigned head_of(Py_UCS4 first, Py_UCS4 second) { return (first * 37 + second) % HEADS; }

static int stands_on(const Line *line, Py_ssize_t at, PyObject *saying) {
    const int kind = PyUnicode_KIND(saying);
    const void *data = PyUnicode_DATA(saying);
    const Py_ssize_t length = PyUnicode_GET_LENGTH(saying);
    for (Py_ssize_t one = 0; one < length; one++)
        if (on(line, at + one) != PyUnicode_READ(kind, data, one)) return 0;
    return 1;
}

PyDoc_STRVAR(within_doc, "within(text) -> bool: whether one of the sayings stands in it.");

static PyObject *sayings_within(Sayings *self, PyObject *string) {
    Line line;
    if (open_line(string, &line) < 0) return NULL;
    for (Py_ssize_t at = 0; at + 1 < line.length; at++) {
        const Py_UCS4 first = PyUnicode_READ(line.kind, line.data, at);
        const Py_UCS4 second = PyUnicode_READ(line.kind, line.data, at + 1);
        for (int one = self->heads[head_of(first, second)]; one; one = self->next[one]) {
            PyObject *saying = PyTuple_GET_ITEM(self->said, one - 1);
            if (!stands_on(&line, at, saying)) continue;
            if (!self->begin_words || !PyUnicode_IS_ASCII(saying) || !is_alnum(on(&line, at - 1)))
                Py_RETURN_TRUE;
        }
    }
    Py_RETURN_FALSE;
}

static void sayings_dealloc(Sayings *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->said);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *sayings_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"said", "begin_words", NULL};
    PyObject *said;
    int begin_words = 0;
    if (!PyArg_ParseTupleAndKeywords(args, named, "O!|p", names, &PyTuple_Type, &said, &begin_words)) return NULL;
    const Py_ssize_t count = PyTuple_GET_SIZE(said);
    for (Py_ssize_t one = 0; one < count; one++) {
        PyObject *saying = PyTuple_GET_ITEM(said, one);
        if (!PyUnicode_CheckExact(saying) || PyUnicode_GET_LENGTH(saying) < 2) {
            PyErr_SetString(PyExc_TypeError, "a saying is a str of two characters or more");
            return NULL;
        }
    }
    if (count > SAYINGS_MAX) {
        PyErr_Format(PyExc_ValueError, "at most %d sayings", SAYINGS_MAX);
        return NULL;
    }
    Sayings *self = (Sayings *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->said = Py_NewRef(said);
    self->begin_words = begin_words;
    for (Py_ssize_t one = 1; one <= count; one++) {
        PyObject *saying = PyTuple_GET_ITEM(said, one - 1);
        uint16_t *head = &self->heads[head_of(PyUnicode_READ_CHAR(saying, 0), PyUnicode_READ_CHAR(saying, 1))];
        self->next[one] = *head;
        *head = (uint16_t)one;
    }
    return (PyObject *)self;
}

static PyMethodDef sayings_methods[] = {
    {"within", (PyCFunction)sayings_within, METH_O, within_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sayings_slots[] = {
    {Py_tp_doc, "Sayings(said, begin_words=False): strings that are looked for all at once; those of ASCII only where "
                "they begin a word, if so wished."},
    {Py_tp_new, sayings_new},
    {Py_tp_dealloc, sayings_dealloc},
    {Py_tp_methods, sayings_methods},
    {0, NULL},
};

static PyType_Spec sayings_spec = {"classifiers._kernel.Sayings", sizeof(Sayings), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, sayings_slots};

PyDoc_STRVAR(signs_doc, "signs(line) -> int: how many characters are neither of a word nor blank nor punctuation.");

static PyObject *signs(PyObject *module, PyObject *string) {
    (void)module;
    static const Py_UCS4 punctuation[] = {'.', ',', '!', '?', '\'', '"', ':', ';', '(', ')', '-', 0xFF0C, 0x3002, 0xFF01,
                                          0xFF1F, 0x3001, 0xFF1A, 0xFF1B, 0x201C, 0x201D, 0x2018, 0x2019, 0xFF08, 0xFF09,
                                          0x2026, 0};
    Line line;
    Py_ssize_t found = 0;
    if (open_line(string, &line) < 0) return NULL;
    for (Py_ssize_t at = 0; at < line.length; at++) {
        const Py_UCS4 point = PyUnicode_READ(line.kind, line.data, at);
        found += !is_alnum(point) && !is_blank(point) && !is_one_of(point, punctuation);
    }
    return PyLong_FromSsize_t(found);
}

PyDoc_STRVAR(wording_doc, "wording(words, grammar) -> (of grammar, turns, repeats): how many words of a list are in the "
                          "set, how often one follows that is in it and one that is not or the other way round, and how "
                          "many are the word before again.");

static PyObject *wording(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    if (given != 2 || !PyList_Check(args[0]) || !PyFrozenSet_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "wording(words: list, grammar: frozenset)");
        return NULL;
    }
    int of_grammar = 0, turns = 0, repeats = 0, before = 0;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(args[0]); at++) {
        PyObject *word = PyList_GET_ITEM(args[0], at);
        if (!PyUnicode_CheckExact(word)) {
            PyErr_SetString(PyExc_TypeError, "words are str");
            return NULL;
        }
        const int held = PySet_Contains(args[1], word);
        if (held < 0) return NULL;
        if (at) {
            turns += held != before;
            PyObject *last = PyList_GET_ITEM(args[0], at - 1);
            repeats += PyUnicode_GET_LENGTH(word) == PyUnicode_GET_LENGTH(last) && PyUnicode_Compare(word, last) == 0;
        }
        of_grammar += held;
        before = held;
    }
    return Py_BuildValue("(iii)", of_grammar, turns, repeats);
}

/* A word at a place, letters in either case; returns where it ends, or -1. The long s is an s to `re`. */
static Py_ssize_t behind_word(const Line *line, Py_ssize_t at, const char *word) {
    for (; *word; word++, at++) {
        const Py_UCS4 point = on(line, at);
        if (point == NOWHERE) return -1;
        if (Py_UNICODE_TOLOWER(point) != (Py_UCS4)*word && !(*word == 's' && point == 0x17F)) return -1;
    }
    return at;
}

static Py_ssize_t behind_blanks(const Line *line, Py_ssize_t at) {
    while (is_blank(on(line, at))) at++;
    return at;
}

/* Stops, and commas and colons that don't stand in a number. */
static Py_ssize_t behind_stops(const Line *line, Py_ssize_t at) {
    static const Py_UCS4 stops[] = {'\n', ';', 0xFF1B, 0x3002, 0xFF01, 0xFF1F, 0xFF0C, 0x3001, 0xFF1A, 0};
    for (;; at++) {
        const Py_UCS4 point = on(line, at);
        if (point == ',' || point == ':') {
            if (is_digit(on(line, at + 1))) return at;
        } else if (!is_one_of(point, stops)) {
            return at;
        }
    }
}

/* Blanks, a word or sign that joins wishes, blanks; or an arrow with blanks or without. */
static Py_ssize_t behind_joint(const Line *line, Py_ssize_t at) {
    static const char *const words[] = {"and", "then", "plus", "&", "+"};
    const Py_ssize_t begin = behind_blanks(line, at);
    const Py_UCS4 point = on(line, begin), next = on(line, begin + 1);
    for (size_t one = 0; begin > at && one < sizeof words / sizeof words[0]; one++) {
        const Py_ssize_t end = behind_word(line, begin, words[one]);
        if (end >= 0 && is_blank(on(line, end))) return behind_blanks(line, end);
    }
    if (begin > at && is_blank(next) && is_blank(on(line, at)) && begin == at + 1 &&
        (point == '-' || point == 0x2014 || point == 0x2013))
        return begin + 2;
    if ((point == '-' || point == '=') && next == '>') return behind_blanks(line, begin + 2);
    return point == 0x2192 ? behind_blanks(line, begin + 1) : at;
}

/* A word between Han characters that joins wishes. */
static Py_ssize_t behind_link(const Line *line, Py_ssize_t at) {
    static const Py_UCS4 pairs[][2] = {
        {0x7136, 0x540E}, {0x63A5, 0x7740}, {0x4E4B, 0x540E}, {0x968F, 0x540E}, {0x5E76, 0x4E14},
        {0x987A, 0x4FBF}, {0x6700, 0x540E}, {0x540C, 0x65F6}, {0x53E6, 0x5916}, {0x9084, 0x6709},
        {0x7136, 0x5F8C}, {0x63A5, 0x8457}, {0x6700, 0x5F8C}, {0x9806, 0x4FBF},
    };
    static const Py_UCS4 no_again[] = {0x751F, 0x89C1, 0x5A5A, 0x6B21, 0x73B0, 0x5EA6, 0};
    static const Py_UCS4 no_and[] = {0x53D1, 0x884C, 0x5217, 0x8D2D, 0x4E14, 0x5165, 0};
    const Py_UCS4 before = on(line, at - 1), point = on(line, at), next = on(line, at + 1);
    if (!is_han(before) || !is_han(point) || !is_han(next)) return at;
    if (point == 0x518D) return is_one_of(next, no_again) ? at : at + 1;
    for (size_t one = 0; one < sizeof pairs / sizeof pairs[0]; one++)
        if (point == pairs[one][0] && next == pairs[one][1]) return is_han(on(line, at + 2)) ? at + 2 : at;
    return point == 0x5E76 && before != 0x5408 && !is_one_of(next, no_and) ? at + 1 : at;
}

/* Where that which may stand between two wishes ends, if it begins at a place; else that place. */
static Py_ssize_t behind_split(const Line *line, Py_ssize_t at) {
    const Py_UCS4 point = on(line, at), next = on(line, at + 1);
    if (is_plain(point)) return at;
    const Py_ssize_t end = behind_stops(line, at);
    if (end > at) return end;
    if ((point == '.' || point == '!' || point == '?') && (next == NOWHERE || is_blank(next))) return at + 1;
    if (is_blank(point) || point == '-' || point == '=' || point == 0x2192) return behind_joint(line, at);
    if (point == '(' && is_digit(next) && on(line, at + 2) == ')') return at + 3;
    if (point >= 0x2460 && point <= 0x2468) return at + 1; /* figures in circles */
    return behind_link(line, at);
}

PyDoc_STRVAR(split_doc, "split(text) -> list: the pieces between all that may stand between two wishes.");

static PyObject *split(PyObject *module, PyObject *string) {
    (void)module;
    Line line;
    if (open_line(string, &line) < 0) return NULL;
    PyObject *pieces = PyList_New(0);
    Py_ssize_t begin = 0;
    for (Py_ssize_t at = 0; pieces && at <= line.length; at++) {
        const Py_ssize_t end = at < line.length ? behind_split(&line, at) : at + 1;
        if (end == at) continue;
        PyObject *piece = PyUnicode_Substring(string, begin, at);
        if (!piece || PyList_Append(pieces, piece) < 0) Py_CLEAR(pieces);
        Py_XDECREF(piece);
        begin = end;
        at = end - 1;
    }
    return pieces;
}

#endif
