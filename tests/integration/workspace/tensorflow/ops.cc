#include "tensorflow/machine.h"

const char* ops_machine() { return framework_machine(); }
