/* What a text shows besides its words: the language of the instruction, and structural flags.
 *
 * The twin of `language.language_of` and `structure`: what a comment there explains is not said again. `_kernel.c` and
 * `_kernel_judge.h` use it.
 *
 * Invariant: flags have the names and places that `structure.FLAGS` has, or no `Reader` is made.
 */
#ifndef COE_KERNEL_FLAGS_H
#define COE_KERNEL_FLAGS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "_kernel_text.h"

/* In the order of `language.LANGUAGES`, which is that of the last flags. */
enum { ENGLISH, CHINESE, OTHER, UNDETERMINED, LANGUAGES };

/* In the order of FLAG_NAMES; the last two of the first group are what a text can't show of itself. */
enum {
    FENCE, BACKTICK, SOME_CODE, MUCH_CODE, INDENTED, LATEX, MATHS, MANY_MATHS, A_DIGIT, MANY_DIGITS, QUESTION, QUESTIONS,
    EXCLAMATION, QUOTES, CHOICES, BULLETS, NUMBERED, LINK, TO_FILL, SPEAKERS, TWO_ACTIONS, MORE_ACTIONS, EARLIER, BY_APP,
    FIRST_SHAPE, ENDS_ASKING = FIRST_SHAPE, ENDS_WITH_COLON, ONE_LINE, FEW_LINES, MORE_LINES, BLANK_LINE, SHORT_FIRST,
    TO_20, TO_60, TO_200, TO_600, OVER_600, MIXED, NO_CAPITAL, FIRST_LANGUAGE, FLAGS = FIRST_LANGUAGE + LANGUAGES,
};

static const char *const FLAG_NAMES[] = {
    "code fence", "backtick", "code punctuation", "much code punctuation", "indented lines", "latex", "maths symbols",
    "many maths symbols", "a digit", "many digits", "question mark", "several question marks", "exclamation mark",
    "quotation marks", "answer choices", "bullet list", "numbered list", "link", "a blank to fill", "lines of speakers",
    "two kinds of action", "three or more kinds of action", "earlier turns", "asked by an app",
    "ends with a question mark", "ends with a colon", "one line", "2-4 lines", "5+ lines", "blank line inside",
    "short first line, long rest", "at most 20 characters", "21-60 characters", "61-200 characters",
    "201-600 characters", "over 600 characters", "Han and Latin mixed", "no capital at the start", "language en",
    "language zh", "language other", "language und",
};

_Static_assert(sizeof(FLAG_NAMES) / sizeof(FLAG_NAMES[0]) == FLAGS && FLAGS < FLAGS_MAX, "every flag has its name and bit");

#define MANY 3
#define LINES_FEW 4
#define FIRST_LINE_SHORT 120
#define REST_LONG 200
#define SPEAKER_CHARS 24
#define SPEAKER_LINES_READ 8
#define EDGE_CHARS 8 /* how far from either end the first and the last visible character are looked for */

static const char *const LATEX_WORDS[] = {"\\frac", "\\sqrt", "$\\", "\\(", "\\[", "\\begin"};

/* Flags are gathered as bits, so they come out in ascending order. */
#define BIT(flag) (UINT64_C(1) << (flag))

static int opens_in_english(const Reader *self, const Found *found) {
    return found->has_opening && found->opening >= self->figures.opening_latin;
}

static int language_of(const Reader *self, const Text *text, const Found *found) {
    const Figures *is = &self->figures;
    const int *counts = text->counts;
    const int latin = counts[is->latin] + counts[is->accented], han = counts[is->han], kana = counts[is->kana];
    const int elsewhere = counts[is->hangul] + counts[is->other_letter], east = han + kana;
    const int opens = opens_in_english(self, found);
    if (!(latin + east + elsewhere)) return UNDETERMINED;
    if (elsewhere > (east > latin / 2 ? east : latin / 2)) return OTHER;
    if (east) {
        if (kana >= self->kana_share * east && east * is->latin_per_han >= latin) return opens ? ENGLISH : OTHER;
        if (han && !opens && han * is->latin_per_han >= latin) return CHINESE;
    }
    if (!latin) return han ? CHINESE : OTHER;
    const int accents = counts[is->accented] < is->accents_max ? counts[is->accented] : is->accents_max;
    const double strange = found->foreign + self->accent_weight * accents;
    return strange > found->english + self->foreign_margin ? OTHER : ENGLISH;
}

static Py_UCS4 point_at(const Text *text, int at) { return at < text->length ? text->points[at] : NO_POINT; }

/* Whether a text holds an ASCII needle from a position on. */
static int stands_at(const Text *text, int at, const char *needle) {
    for (; *needle; needle++, at++)
        if (point_at(text, at) != (Py_UCS4)*needle) return 0;
    return 1;
}

static int holds(const Text *text, const char *needle) {
    for (const char *one = needle; *one; one++)
        if (!text->seen[(unsigned char)*one]) return 0;
    for (int at = 0; at < text->length; at++)
        if (text->points[at] == (Py_UCS4)*needle && stands_at(text, at, needle)) return 1;
    return 0;
}

static uint64_t punctuation(const Figures *is, const Text *text) {
    const int *counts = text->counts;
    uint64_t found = 0;
    if (counts[is->backtick]) found |= BIT(counts[is->backtick] >= MANY && holds(text, "```") ? FENCE : BACKTICK);
    int code = counts[is->code];
    if (counts[is->bracket]) code += holds(text, "()");
    if (counts[is->maths]) {
        code += holds(text, "=>") + holds(text, "</");
        found |= BIT(counts[is->maths] > MANY ? MANY_MATHS : MATHS);
    }
    if (code) found |= BIT(code > 2 * MANY ? MUCH_CODE : SOME_CODE);
    for (size_t one = 0; counts[is->backslash] && one < sizeof LATEX_WORDS / sizeof LATEX_WORDS[0]; one++)
        if (holds(text, LATEX_WORDS[one])) found |= BIT(LATEX);
    if (counts[is->question]) found |= BIT(counts[is->question] > 1 ? QUESTIONS : QUESTION);
    if (counts[is->exclamation]) found |= BIT(EXCLAMATION);
    if (counts[is->quotation]) found |= BIT(QUOTES);
    if (counts[is->slash] > 1 && (holds(text, "://") || holds(text, "www."))) found |= BIT(LINK);
    return found;
}

/* Whether several of the first lines open with a short name and a colon. */
static int has_speakers(const Text *text) {
    int opened = 0, at = 0;
    for (int line = 0; line < SPEAKER_LINES_READ && at <= text->length; line++) {
        int begin = at, told = 0;
        for (; at < text->length && text->points[at] != '\n'; at++) {
            if (at - begin >= SPEAKER_CHARS) continue;
            told |= text->points[at] == 0xFF1A; /* a wide colon */
            told |= text->points[at] == ':' && at + 1 - begin < SPEAKER_CHARS && point_at(text, at + 1) == ' ';
        }
        opened += told;
        at++;
    }
    return opened >= MANY;
}

static uint64_t lines_of(const Text *text) {
    uint64_t found = BIT(text->breaks < LINES_FEW ? FEW_LINES : MORE_LINES);
    const int first = text->first_break;
    for (int at = first; at < text->last_line; at++) {
        if (text->points[at] != '\n') continue;
        Py_UCS4 next = point_at(text, at + 1), second = point_at(text, at + 2);
        if (next == '\n') found |= BIT(BLANK_LINE);
        if (next == '\t' || stands_at(text, at + 1, "    ")) found |= BIT(INDENTED);
        if ((next == '-' || next == '*' || next == 0x2022) && second == ' ') found |= BIT(BULLETS);
        if (next == '2' && (second == '.' || second == 0x3001 || second == ')')) found |= BIT(NUMBERED);
    }
    if (first <= FIRST_LINE_SHORT && text->length - first > REST_LONG) found |= BIT(SHORT_FIRST);
    if (text->breaks >= MANY - 1 && has_speakers(text)) found |= BIT(SPEAKERS);
    return found;
}

static int marks_choice(Py_UCS4 point) {
    return point == '.' || point == ')' || point == ':' || point == 0x3001 || point == 0xFF0E || point == 0xFF1A;
}

static int has_choices(const Text *text) {
    if (!text->seen['B'] || !text->seen['C']) return 0;
    for (int at = 0; at < text->length - 1; at++) {
        const Py_UCS4 mark = text->points[at + 1];
        if (text->points[at] != 'B' || !marks_choice(mark)) continue;
        if (at && Py_UNICODE_ISALNUM(text->points[at - 1])) continue;
        for (int third = at; third < text->length - 1; third++)
            if (text->points[third] == 'C' && text->points[third + 1] == mark)
                return !Py_UNICODE_ISALNUM(text->points[third - 1]);
        return 0;
    }
    return 0;
}

/* How a text begins and ends. */
static uint64_t edges_of(const Text *text) {
    int first = 0, last = text->length - 1;
    while (first < text->length && first < EDGE_CHARS && Py_UNICODE_ISSPACE(text->points[first])) first++;
    while (last >= 0 && last >= text->length - EDGE_CHARS && Py_UNICODE_ISSPACE(text->points[last])) last--;
    uint64_t found = 0;
    if (first < text->length && first < EDGE_CHARS && Py_UNICODE_ISLOWER(text->points[first])) found |= BIT(NO_CAPITAL);
    if (last >= 0 && last >= text->length - EDGE_CHARS) {
        const Py_UCS4 end = text->points[last];
        if (end == '?' || end == 0xFF1F) found |= BIT(ENDS_ASKING);
        if (end == ':' || end == 0xFF1A) found |= BIT(ENDS_WITH_COLON);
    }
    return found;
}

/* The flags of a text that was read, a bit for each. */
static uint64_t flags_of(const Reader *self, const Text *text, const Found *found, int language) {
    const Figures *is = &self->figures;
    const int length = text->length, actions = actions_of(found), digits = text->counts[is->digit];
    uint64_t flags = BIT(FIRST_LANGUAGE + language) | punctuation(is, text) | edges_of(text);
    flags |= text->breaks ? lines_of(text) : BIT(ONE_LINE);
    flags |= BIT(length <= 20 ? TO_20 : length <= 60 ? TO_60 : length <= 200 ? TO_200 : length <= 600 ? TO_600 : OVER_600);
    if (has_choices(text)) flags |= BIT(CHOICES);
    if (holds(text, "__")) flags |= BIT(TO_FILL);
    if (digits) flags |= BIT(digits > 2 * MANY ? MANY_DIGITS : A_DIGIT);
    if (text->counts[is->han] && text->counts[is->latin] > 1 && (language == CHINESE || language == ENGLISH))
        flags |= BIT(MIXED);
    if (actions > 1) flags |= BIT(actions >= MANY ? MORE_ACTIONS : TWO_ACTIONS);
    return flags;
}

/* Whether the names are those that the places above are of, or a ValueError. */
static int are_named(PyObject *names) {
    int same = PyTuple_Check(names) && PyTuple_GET_SIZE(names) == FLAGS;
    for (int flag = 0; same && flag < FLAGS; flag++) {
        PyObject *name = PyTuple_GET_ITEM(names, flag);
        same = PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, FLAG_NAMES[flag]) == 0;
    }
    if (!same) PyErr_SetString(PyExc_ValueError, "the flags have other names or places");
    return same;
}

/* Flags as a tuple of their places. */
static PyObject *places_of(uint64_t flags) {
    Py_ssize_t count = 0;
    for (uint64_t left = flags; left; left &= left - 1) count++;
    PyObject *places = PyTuple_New(count);
    for (int flag = 0, at = 0; places && flag < FLAGS; flag++) {
        if (!(flags & BIT(flag))) continue;
        PyObject *place = PyLong_FromLong(flag);
        if (!place) Py_CLEAR(places);
        else PyTuple_SET_ITEM(places, at++, place);
    }
    return places;
}

#endif
