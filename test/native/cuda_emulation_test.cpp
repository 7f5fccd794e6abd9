// The CUDA emulation itself: its fibers, barriers, warp operations and memory do what a GPU's do, and the mistakes that
// a GPU would not forgive (a write out of bounds, a missing or divergent barrier, a host pointer) are caught.
#include <cstdio>

#include "cuda_emulation_test/support.h"

namespace emulation = rlvr::emulation;
using namespace rlvr::emulation_test;

int main() {
  contexts();  // first: what other tests do stays
  emulation::set_fill(0xff);
  for (const bool async : {true, false}) {
    emulation::set_async(async);
    threads();
    runtime_api();
    mistakes();
    pools();
    graphs();
  }
  machines();
  asynchrony();
  numbers();
  speed();
  check(emulation::live_allocations() == 0 && emulation::live_streams() == 0 && emulation::live_events() == 0 &&
            emulation::live_graphs() == 0 && emulation::live_pools() == 0,
        "nothing leaked");
  std::puts("cuda emulation: ok");
  return 0;
}
