// Finds the kernels' __shared__ variables in the ELF file that this code is in, and overwrites them before each block.
//
// g++ 12 ignores a section attribute on the static variables of templates, and the linker's __start_ symbols need one
// section. `noinit` is honoured everywhere: a variable of a function with internal linkage lands in .noinit, one of an
// inline function or template in a section of its own, .noinit.<name>. The section headers tell where those are.
#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "emulation/runtime_state.h"

namespace rlvr::emulation::detail {
namespace {

struct Range {
  uint64_t address;
  uint64_t bytes;
};

// The executable or shared library around this function.
class Module {
 public:
  Module() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* self) { return static_cast<Module*>(self)->take(*info) ? 1 : 0; }, this);
    const int file = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file < 0 || fstat(file, &status) != 0) die("cannot open " + path_);
    void* const memory = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (memory == MAP_FAILED) die("cannot read " + path_);
    close(file);
    bytes_ = static_cast<const char*>(memory);
    const auto* const header = at<ElfW(Ehdr)>(0);
    for (unsigned i = 0; i < header->e_shnum; ++i)
      sections_.push_back(*at<ElfW(Shdr)>(header->e_shoff + i * sizeof(ElfW(Shdr))));
    names_ = sections_.at(header->e_shstrndx).sh_offset;
  }

  std::vector<Range> shared_variables() const {
    std::vector<Range> ranges;
    for (const ElfW(Shdr) & section : sections_)
      if (std::strncmp(at<char>(names_ + section.sh_name), ".noinit", 7) == 0)
        ranges.push_back({bias_ + section.sh_addr, section.sh_size});
    return ranges;
  }

  std::string symbol(uint64_t address) const {
    for (const ElfW(Shdr) & section : sections_) {
      if (section.sh_type != SHT_SYMTAB) continue;
      const uint64_t strings = sections_.at(section.sh_link).sh_offset;
      for (uint64_t i = 0; i < section.sh_size / sizeof(ElfW(Sym)); ++i) {
        const auto* const symbol = at<ElfW(Sym)>(section.sh_offset + i * sizeof(ElfW(Sym)));
        if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && bias_ + symbol->st_value == address)
          return at<char>(strings + symbol->st_name);
      }
    }
    return {};
  }

 private:
  bool take(const dl_phdr_info& info) {
    const auto here = reinterpret_cast<uint64_t>(&fill_shared_variables);
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const auto& segment = info.dlpi_phdr[i];
      if (segment.p_type != PT_LOAD || here - info.dlpi_addr - segment.p_vaddr >= segment.p_memsz) continue;
      path_ = info.dlpi_name[0] == '\0' ? "/proc/self/exe" : info.dlpi_name;
      bias_ = info.dlpi_addr;
      return true;
    }
    return false;
  }
  template <typename T>
  const T* at(uint64_t offset) const {
    return reinterpret_cast<const T*>(bytes_ + offset);
  }

  std::string path_;
  uint64_t bias_ = 0;
  const char* bytes_ = nullptr;  // mapped for good
  std::vector<ElfW(Shdr)> sections_;
  uint64_t names_ = 0;
};

const Module& module() {
  static const auto* const instance = new Module;
  return *instance;
}

}  // namespace

// Volatile, so that this does not become a call to memset, which ASan would check.
__attribute__((no_sanitize_address)) void fill(void* address, uint64_t bytes) {
  const uint64_t word = 0x0101010101010101ull * fill_byte();
  auto* at = static_cast<volatile unsigned char*>(address);
  auto* const end = at + bytes;
  for (; at != end && reinterpret_cast<uint64_t>(at) % 8 != 0; ++at) *at = static_cast<unsigned char>(word);
  for (; end - at >= 8; at += 8) *reinterpret_cast<volatile uint64_t*>(at) = word;
  for (; at != end; ++at) *at = static_cast<unsigned char>(word);
}

void fill_shared_variables() {
  static const auto* const ranges = new std::vector<Range>(module().shared_variables());
  for (const Range& range : *ranges) fill(reinterpret_cast<void*>(range.address), range.bytes);
}

std::string mangled_name(const void* address) { return module().symbol(reinterpret_cast<uint64_t>(address)); }

std::string symbol_name(const void* address) {
  const std::string mangled = mangled_name(address);
  if (mangled.empty()) return "(unknown)";
  int status = 0;
  char* const readable = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  const std::string text = status == 0 ? readable : mangled;
  std::free(readable);
  return text;
}

}  // namespace rlvr::emulation::detail
