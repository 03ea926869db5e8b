#include "tensorflow/machine.h"

const char* framework_machine() { return MACHINE; }
