// mingw's exp, log and their like compute in the x87 unit, to the precision that its control word asks for, and threads that
// Node started do not have the one that ours have: the last bit of a result would depend on the thread. Here all have one.
#ifdef __MINGW32__
#include <cstdint>

namespace {

class ExtendedPrecision {
 public:
  ExtendedPrecision() {
    asm volatile("fnstcw %0" : "=m"(before_));
    const uint16_t extended = before_ | 0x300;
    asm volatile("fldcw %0" : : "m"(extended) : "memory");
  }
  ~ExtendedPrecision() { asm volatile("fldcw %0" : : "m"(before_) : "memory"); }
  ExtendedPrecision(const ExtendedPrecision&) = delete;
  ExtendedPrecision& operator=(const ExtendedPrecision&) = delete;

 private:
  uint16_t before_;
};

}  // namespace

// The linker gives calls of `name` to __wrap_name, and those of __real_name to mingw's.
#define RLVR_AS_EXTENDED(name)             \
  double __real_##name(double x);          \
  double __wrap_##name(double x) {         \
    const ExtendedPrecision for_this_call; \
    return __real_##name(x);               \
  }

extern "C" {
RLVR_AS_EXTENDED(exp)
RLVR_AS_EXTENDED(exp2)
RLVR_AS_EXTENDED(expm1)
RLVR_AS_EXTENDED(log)
RLVR_AS_EXTENDED(log1p)
}
#endif
