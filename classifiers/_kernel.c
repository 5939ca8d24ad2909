/* Reading a text, weighing its features, judging it, and what a quality artefact makes of it: what `scanning`, `kernel`,
 * `judging` and `quality.scorer` do with NumPy, without starting a hundred array operations.
 * tests/unit/classifiers/test_kernel.py holds the two together.
 *
 * Where on the path: `scorer` calls `Judge.judge` for each text that it reads, `features.extract` calls `Reader.scan`,
 * `quality.scorer` calls `weigh` or `Ground.logits`.
 *
 * Invariants:
 * 1. A text is at most TEXT_MAX characters (ValueError otherwise), so every array here has a fixed size; what is
 *    written to the caller's arrays is checked against their length first.
 * 2. What a character is, which words ask for an action, how much a position counts come as tables from Python, which
 *    never change; the order of languages and the names of structural flags have to be those of Python.
 * 3. Sums run in the order of the features, and floats are never contracted (-ffp-contract=off).
 * 4. No state changes after `Reader`, `Judge` and `Ground` were made, and what is worked on lies on the stack: threads
 *    and interpreters may share them, and nothing of a text is kept.
 */
#ifndef COE_SOURCES
#define COE_SOURCES "" /* hatch_build.py names the hash of these files */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_kernel_ground.h"
#include "_kernel_judge.h"
#include "_kernel_reader.h"
#include "_kernel_rows.h"
#include "_kernel_words.h"

static int prepare(PyObject *module) {
    PyType_Spec *const specs[] = {&reader_spec, &judge_spec, &ground_spec, &sayings_spec};
    for (size_t one = 0; one < sizeof specs / sizeof specs[0]; one++) {
        PyObject *type = PyType_FromSpec(specs[one]);
        int added = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
        Py_XDECREF(type);
        if (added < 0) return -1;
    }
    if (PyModule_AddIntConstant(module, "TEXT_MAX", TEXT_MAX) < 0) return -1;
    if (PyModule_AddIntConstant(module, "COLUMNS_MAX", COLUMNS_MAX) < 0) return -1;
    if (PyModule_AddIntConstant(module, "WIDTH", WIDTH) < 0) return -1;
    return PyModule_AddStringConstant(module, "SOURCES", COE_SOURCES);
}

static PyMethodDef functions[] = {
    {"weigh", (PyCFunction)(void (*)(void))weigh, METH_FASTCALL, weigh_doc},
    {"wording", (PyCFunction)(void (*)(void))wording, METH_FASTCALL, wording_doc},
    {"signs", signs, METH_O, signs_doc},
    {"split", split, METH_O, split_doc},
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
