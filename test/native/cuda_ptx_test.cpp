// Translated PTX (test/native/ptx): instructions do what PTX says, and what a GPU would not do is caught. The kernels
// are those of cuda_ptx_test/instructions.ptx; here they only have their names.
#include <array>
#include <cstdio>

#include "cuda_emulation_test/support.h"

namespace emulation = rlvr::emulation;
using namespace rlvr::emulation_test;

__global__ void numbers(unsigned*) {}
__global__ void conversions(unsigned*) {}
__global__ void integers(unsigned*) {}
__global__ void shuffles(unsigned*) {}
__global__ void together(unsigned*, unsigned*) {}
__global__ void mistaken(unsigned*, int) {}
__global__ void untranslated(unsigned*) {}
__global__ void different(unsigned*) {}

namespace {

template <size_t kCount>
void results(void (*kernel)(unsigned*), const std::array<unsigned, kCount>& expected) {
  const Device<unsigned> out(kCount);
  ok(emulation::launch(kernel, 1, 1, nullptr, out.data()));
  const std::vector<unsigned> got = out.host();
  for (size_t i = 0; i < kCount; ++i) {
    if (got[i] != expected[i]) std::fprintf(stderr, "word %zu: 0x%x, not 0x%x\n", i, got[i], expected[i]);
    check(got[i] == expected[i], "what PTX says");
  }
}

void one_thread() {
  results<14>(numbers, {0x3f80c000, 0x3c003c02, 0x3f800000, 0x7fffffff, 0x00000000, 0x80000000, 0x33800000, 0x00000000,
                        0x00000000, 0x80000001, 0x40007fff, 0x40004040, 0x40e04100, 0x1234abcd});
  results<8>(conversions, {2, static_cast<unsigned>(-2), 0, 0x7fffffff, 0, 0xffffff80, 0x3f800000, 0x4b800000});
  results<14>(integers, {0, 0xffffffff, 0x7ffffffc, 2, 0x00000005, 0xff116622, 0xffffffff, 0x12345f78, 3, 0x17,
                         0xd0000000, 0xffffffff, 10, 10});
}

void a_warp() {
  const Device<unsigned> shuffled(32 * 4);
  ok(emulation::launch(shuffles, 1, 32, nullptr, shuffled.data()));
  const std::vector<unsigned> got = shuffled.host();
  const auto inside = [](bool is, unsigned lane) { return is ? lane | 256u : lane; };
  for (unsigned i = 0; i < 32; ++i) {
    check(got[4 * i] == (i >= 3 ? inside(true, i - 3) : i), "shfl.up ends at the first lane");
    check(got[4 * i + 1] == (i + 3 < 32 ? inside(true, i + 3) : i), "shfl.down ends at the last lane");
    check(got[4 * i + 2] == inside(true, i / 8 * 8 + 5), "shfl.idx stays in its segment");
    check(got[4 * i + 3] == ((i ^ 9u) < i ? inside(true, i ^ 9u) : i), "shfl.bfly ends at the clamp");
  }
}

void a_block() {
  const Device<unsigned> counter(std::vector<unsigned>{0, 5});
  const Device<unsigned> out(32 * 4);
  ok(emulation::launch(together, 1, 32, nullptr, counter.data(), out.data()));
  check(counter.host() == std::vector<unsigned>{2, 31}, "atomics");
  const std::vector<unsigned> got = out.host();
  for (unsigned i = 0; i < 32; ++i) {
    check(got[4 * i] == i % 16, "shared memory");
    check(got[4 * i + 1] == 0xffff && got[4 * i + 2] == 496 && got[4 * i + 3] == 0x10001u << i % 16, "votes and sums");
  }
}

void refusals() {
  const Device<unsigned> out(16);
  const auto run = [&](int how, unsigned threads) {
    void (*const kernel)(unsigned*, int) = mistaken;
    ok(emulation::launch(kernel, 1, threads, nullptr, out.data(), how));
    ok(cudaDeviceSynchronize());
  };
  dies([&] { run(0, 1); }, {"a misaligned access of 16 bytes", "instructions.ptx:192", "mistaken(unsigned int*, int)"});
  dies([&] { run(1, 1); }, {"outside of shared variables", "instructions.ptx:196"});
  if (kAsan) dies([&] { run(2, 1); }, {"not the kernel's", "instructions.ptx:199"});
  dies([&] { run(0, 64); }, {"compiled for 32"});
  dies([&] { ok(emulation::launch(different, 1, 1, nullptr, out.data())); }, {"other sizes in PTX", "different"});
  dies([&] { ok(emulation::launch(untranslated, 1, 1, nullptr, out.data())); },
       {"no translation of kernel untranslated"});
}

}  // namespace

int main() {
  setenv("RLVR_EMULATION_PTX", "1", 1);
  for (const char* order : kOrders) {
    emulation::set_order(order);
    one_thread();
    a_warp();
    a_block();
  }
  refusals();
  std::puts("cuda ptx: ok");
  return 0;
}
