/* The C library: its version, and a graph of one addition that a session runs. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static TF_Status* status;

static void free_nothing(void* data, size_t length, void* arg) {
  (void)data;
  (void)length;
  (void)arg;
}

static int failed(const char* what) {
  if (TF_GetCode(status) == TF_OK) return 0;
  printf("%s: %s\n", what, TF_Message(status));
  return 1;
}

static TF_Operation* constant(TF_Graph* graph, const char* name, int32_t* value) {
  TF_OperationDescription* description = TF_NewOperation(graph, "Const", name);
  TF_Tensor* tensor = TF_NewTensor(TF_INT32, NULL, 0, value, sizeof *value, free_nothing, NULL);
  TF_SetAttrTensor(description, "value", tensor, status);
  if (failed("TF_SetAttrTensor")) return NULL;
  TF_SetAttrType(description, "dtype", TF_INT32);
  return TF_FinishOperation(description, status);
}

int main(void) {
  int32_t two = 2, three = 3;
  TF_Graph* graph = TF_NewGraph();
  TF_OperationDescription* description;
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session;
  TF_Output sum, input;
  TF_Tensor* result = NULL;

  status = TF_NewStatus();
  input.oper = constant(graph, "two", &two);
  if (failed("two")) return 1;
  input.index = 0;
  description = TF_NewOperation(graph, "Add", "sum");
  TF_AddInput(description, input);
  input.oper = constant(graph, "three", &three);
  if (failed("three")) return 1;
  TF_AddInput(description, input);
  sum.oper = TF_FinishOperation(description, status);
  sum.index = 0;
  if (failed("sum")) return 1;
  session = TF_NewSession(graph, options, status);
  if (failed("TF_NewSession")) return 1;
  TF_SessionRun(session, NULL, NULL, NULL, 0, &sum, &result, 1, NULL, 0, NULL, status);
  if (failed("TF_SessionRun")) return 1;
  printf("TensorFlow %s: 2 + 3 = %d\n", TF_Version(), *(int32_t*)TF_TensorData(result));
  return 0;
}
