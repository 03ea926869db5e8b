// What the three extension modules share: filling a dict, and the small differences between Python 2 and 3.
#ifndef CUDA_CHECK_MODULE_H_
#define CUDA_CHECK_MODULE_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace cuda_check {

// Puts `value` into `dict` and gives up the caller's reference to it; false with an exception set if that fails.
inline bool Put(PyObject* dict, const char* key, PyObject* value) {
  if (value == nullptr) return false;
  const int failed = PyDict_SetItemString(dict, key, value);
  Py_DECREF(value);
  return failed == 0;
}

inline PyObject* Text(const char* text) {
#if PY_MAJOR_VERSION >= 3
  return PyUnicode_FromString(text);
#else
  return PyString_FromString(text);
#endif
}

}  // namespace cuda_check

#if PY_MAJOR_VERSION >= 3
#define CUDA_CHECK_MODULE(name, methods, text)                                                       \
  PyMODINIT_FUNC PyInit_##name() {                                                                   \
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT, #name, text, -1, methods, nullptr,       \
                                     nullptr,               nullptr, nullptr};                       \
    return PyModule_Create(&definition);                                                             \
  }
#else
#define CUDA_CHECK_MODULE(name, methods, text) \
  PyMODINIT_FUNC init##name() { Py_InitModule3(#name, methods, text); }
#endif

#endif  // CUDA_CHECK_MODULE_H_
