/* An extension for CPython 2.7 and 3.5 on: what the headers said when it was compiled, and objects of many kinds. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif
#if PY_MAJOR_VERSION < 3
typedef long Py_hash_type;
#else
typedef Py_hash_t Py_hash_type;
#endif

static PyObject *
facts(PyObject *self, PyObject *unused)
{
    PyObject *found = PyDict_New();
    if (found == NULL)
        return NULL;
#define FACT(name, value)                                                    \
    do {                                                                     \
        PyObject *object = PyLong_FromLongLong((long long)(value));          \
        if (object == NULL || PyDict_SetItemString(found, name, object) < 0) \
            return NULL;                                                     \
        Py_DECREF(object);                                                   \
    } while (0)
    FACT("hexversion", PY_VERSION_HEX);
    FACT("pointer", sizeof(void *));
    FACT("long", SIZEOF_LONG == sizeof(long) ? sizeof(long) : 0);
    FACT("size_t", SIZEOF_SIZE_T == sizeof(size_t) ? sizeof(size_t) : 0);
    FACT("wchar_t", SIZEOF_WCHAR_T == sizeof(wchar_t) ? sizeof(wchar_t) : 0);
    FACT("bits_per_digit", PyLong_SHIFT);
    FACT("hash_width", 8 * sizeof(Py_hash_type));
#if PY_MAJOR_VERSION < 3
    FACT("unicode", Py_UNICODE_SIZE);
#endif
#ifdef HAVE_WORKING_TZSET
    FACT("tzset", 1);
#else
    FACT("tzset", 0);
#endif
#ifdef WITH_PYMALLOC
    FACT("pymalloc", 1);
#else
    FACT("pymalloc", 0);
#endif
    return found;
}

/* (text, number, float, bytes) → (text twice, number + 1, float / 2, length of bytes) */
static PyObject *
work(PyObject *self, PyObject *args)
{
    PyObject *text, *twice, *answer;
    long long number;
    double fraction;
    const char *bytes;
    Py_ssize_t length;

    if (!PyArg_ParseTuple(args, PY_MAJOR_VERSION < 3 ? "ULds#" : "ULdy#", &text, &number, &fraction, &bytes, &length))
        return NULL;
    twice = PyUnicode_Concat(text, text);
    if (twice == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    number += 1;
    Py_END_ALLOW_THREADS
    answer = Py_BuildValue("NLdn", twice, number, fraction / 2, length);
    return answer;
}

static PyMethodDef methods[] = {
    {"facts", facts, METH_NOARGS, "What the headers said."},
    {"work", work, METH_VARARGS, "Takes and makes objects of many kinds."},
    {NULL, NULL, 0, NULL},
};

#if PY_MAJOR_VERSION < 3
PyMODINIT_FUNC
initprobe(void)
{
    Py_InitModule("probe", methods);
}
#else
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "probe", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_probe(void)
{
    return PyModule_Create(&module);
}
#endif
