// Node-API for an addon that mingw builds. An import names a file, node.exe, but an addon is to work in any program that has
// Node in it, Electron's or a renamed one. So the addon imports nothing of Node's: it looks its functions up in the program
// that runs, when it is loaded.
#include <windows.h>

// The pointers through which calls of imported functions go, by the name that the compiler gives them.
#define NODE_API_FUNCTION(name) FARPROC __imp_##name;
extern "C" {
#include "node_api_functions.h"
}
#undef NODE_API_FUNCTION

namespace {

struct Function {
  const char* name;
  FARPROC* address;
};

constexpr Function kFunctions[] = {
#define NODE_API_FUNCTION(name) {#name, &__imp_##name},
#include "node_api_functions.h"
#undef NODE_API_FUNCTION
};

// Whether all functions are there: in the program itself, or where it was built so, in Node's library.
bool find_functions() {
  const HMODULE program = GetModuleHandleW(nullptr);
  const HMODULE library = GetModuleHandleW(L"libnode.dll");
  for (const auto& [name, address] : kFunctions) {
    *address = GetProcAddress(program, name);
    if (*address == nullptr && library != nullptr) *address = GetProcAddress(library, name);
    if (*address == nullptr) return false;
  }
  return true;
}

// Keeps the addon in memory to the end of the process, as on Linux: Node unloads it with its last environment, but other
// threads may run its code later, when they end.
bool stay_loaded(HINSTANCE self) {
  HMODULE pinned = nullptr;
  return GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                            reinterpret_cast<LPCWSTR>(self), &pinned) != 0;
}

}  // namespace

extern "C" BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID) {
  if (reason != DLL_PROCESS_ATTACH) return TRUE;
  return find_functions() && stay_loaded(self) ? TRUE : FALSE;
}
