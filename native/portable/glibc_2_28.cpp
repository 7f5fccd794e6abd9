// What the C++ runtime of our build machine calls in its newer glibc, in terms of 2.28. Linked only into prebuilt
// addons, whose static libstdc++ and libgcc were configured for a newer system than they will run on. Hidden like
// the rest of the addon: nothing else can bind to these.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#ifdef DLFO_STRUCT_HAS_EH_DBASE
static_assert(DLFO_STRUCT_HAS_EH_DBASE == 0 && DLFO_STRUCT_HAS_EH_COUNT == 0, "fields that are not filled in here");

namespace {

struct Search {
  uintptr_t address;
  dl_find_object* found;
};

int look_into(dl_phdr_info* object, size_t, void* data) {
  const Search& search = *static_cast<Search*>(data);
  const ElfW(Phdr)* eh_frame = nullptr;
  uintptr_t begin = UINTPTR_MAX;
  uintptr_t end = 0;
  bool inside = false;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object->dlpi_phdr[i];
    const uintptr_t start = object->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_GNU_EH_FRAME) eh_frame = &header;
    if (header.p_type != PT_LOAD) continue;
    if (start < begin) begin = start;
    if (start + header.p_memsz > end) end = start + header.p_memsz;
    inside = inside || (search.address >= start && search.address < start + header.p_memsz);
  }
  if (!inside) return 0;
  if (eh_frame == nullptr) return -1;  // this is the object, and it has no table: stop
  *search.found = {};
  search.found->dlfo_map_start = reinterpret_cast<void*>(begin);
  search.found->dlfo_map_end = reinterpret_cast<void*>(end);
  search.found->dlfo_eh_frame = reinterpret_cast<void*>(object->dlpi_addr + eh_frame->p_vaddr);
  return 1;
}

}  // namespace
#endif

extern "C" {

// 2.32; read by shared_ptr to skip atomics in a single-threaded process. We have threads.
__attribute__((used)) char __libc_single_threaded = 0;

// 2.36; read by std::random_device.
__attribute__((used)) uint32_t arc4random() noexcept {
  uint32_t value;
  if (getentropy(&value, sizeof(value)) != 0) std::abort();
  return value;
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE
// 2.35; the unwinder's way from an address to the table of exception frames. dlfo_link_map stays empty: it is not read.
__attribute__((used)) int _dl_find_object(void* address, dl_find_object* result) noexcept {
  Search search{reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(look_into, &search) == 1 ? 0 : -1;
}
#endif

}  // extern "C"
