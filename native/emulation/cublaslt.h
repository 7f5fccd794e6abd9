// cuBLASLt with a plain product, for test builds: what a program finds where it looks for the library.
#pragma once

namespace rlvr::emulation {

// The library of a name that the system's loader would look for, without a folder; null for any other.
void* open_cublaslt(const char* name);
// A function of that library by name; null in another, and for a function that is not emulated.
void* cublaslt_function(void* library, const char* name);

}  // namespace rlvr::emulation
