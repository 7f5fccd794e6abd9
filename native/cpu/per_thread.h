// Objects that a thread keeps for itself.
#pragma once

#ifdef __MINGW32__
#include <windows.h>

#include <new>
#endif

namespace rlvr {

// The T of this thread, made at its first call, which lives as long as the thread. There is one for each type: who shares it
// with nobody has a type of its own.
template <class T>
T& per_thread() {
#ifdef __MINGW32__
  // mingw frees the memory of a thread_local before it calls the destructor.
  static const DWORD slot = FlsAlloc([](void* object) { delete static_cast<T*>(object); });
  if (void* object = FlsGetValue(slot)) return *static_cast<T*>(object);
  T* object = new T();
  if (!FlsSetValue(slot, object)) {
    delete object;
    throw std::bad_alloc();
  }
  return *object;
#else
  thread_local T object;
  return object;
#endif
}

}  // namespace rlvr
