// Primary contexts: which calls make one, and that a scope leaves other devices without.
#include "cuda/device_scope.h"
#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

// Each in a process of its own, which starts without contexts: there is no way to be rid of one.
template <typename F>
void fresh(F body) {
  const Death death = in_child([&] {
    emulation::set_device_count(3);
    body();
  });
  if (death.died) std::fprintf(stderr, "%s", death.message.c_str());
  check(!death.died, "contexts");
}
void contexts_are(bool zero, bool one, bool two) {
  check(emulation::has_context(0) == zero && emulation::has_context(1) == one && emulation::has_context(2) == two,
        "devices with a context");
}

void calls_make_contexts() {
  fresh([] {
    int device = -1;
    int value = 0;
    cudaDeviceProp properties;
    ok(cudaGetDevice(&device));
    ok(cudaGetDeviceCount(&value));
    ok(cudaGetDeviceProperties(&properties, 2));
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
    contexts_are(false, false, false);
    ok(cudaSetDevice(2));
    contexts_are(false, false, true);
    const Device<int> memory(1);
    contexts_are(false, false, true);
  });
  fresh([] {
    const Device<int> memory(1);
    contexts_are(true, false, false);
  });
  fresh([] {
    const Event event;
    contexts_are(true, false, false);
  });
}

void scopes_make_one_context() {
  fresh([] {
    {
      const cuda::DeviceScope outer(1);
      contexts_are(false, true, false);
      const cuda::DeviceScope inner(2);
      const Device<int> memory(1);
    }
    contexts_are(false, true, true);
    int device = -1;
    ok(cudaGetDevice(&device));
    check(device == 1, "back on the last device with a context");
  });
}

}  // namespace

void contexts() {
  calls_make_contexts();
  scopes_make_one_context();
}

}  // namespace rlvr::emulation_test
