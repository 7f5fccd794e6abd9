#include "mpi/library.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <type_traits>
#include <utility>

#include "mpi/abi.h"

#ifdef __linux__
#include <dlfcn.h>
#endif

namespace rlvr::mpi {
namespace {

#ifdef __linux__
// With every symbol for all to see: Open MPI's own plugins look for them there.
void* open_file(const char* name, std::string& failure) {
  void* file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr) return failure = dlerror(), nullptr;
  if (dlsym(file, "ompi_mpi_comm_world") != nullptr) dlopen(name, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
  return file;
}

void* symbol_in(void* file, const char* name) { return dlsym(file, name); }
#else
void* open_file(const char* name, std::string& failure) {
  failure = std::string(name) + ": MPI is used on Linux only";
  return nullptr;
}

void* symbol_in(void*, const char*) { return nullptr; }
#endif

// MPI_User_function. Of two numbers that are equal, only zeros can differ.
template <class H>
void maximum(void* in, void* in_out, int* count, H*) {
  const double* a = static_cast<const double*>(in);
  double* b = static_cast<double*>(in_out);
  for (int i = 0; i < *count; ++i) {
    if (a[i] != a[i] || b[i] != b[i])
      b[i] = std::numeric_limits<double>::quiet_NaN();
    else if (a[i] == 0 && b[i] == 0)
      b[i] += a[i];
    else
      b[i] = std::max(a[i], b[i]);
  }
}

// MPI's functions that are used, by their names without MPI_.
template <class H>
struct Functions {
  int (*Get_library_version)(char*, int*);
  int (*Error_string)(int, char*, int*);
  int (*Initialized)(int*);
  int (*Finalized)(int*);
  int (*Init_thread)(int*, char***, int, int*);
  int (*Query_thread)(int*);
  int (*Finalize)();
  int (*Abort)(H, int);
  int (*Comm_dup)(H, H*);
  int (*Comm_split)(H, int, int, H*);
  int (*Comm_free)(H*);
  int (*Comm_rank)(H, int*);
  int (*Comm_size)(H, int*);
  int (*Comm_set_errhandler)(H, H);
  int (*Op_create)(void (*)(void*, void*, int*, H*), int, H*);
  int (*Iallreduce)(const void*, void*, int, H, H, H, H*);
  int (*Iallgather)(const void*, int, H, void*, int, H, H, H*);
  int (*Iallgatherv)(const void*, int, H, void*, const int*, const int*, H, H, H*);
  int (*Test)(H*, int*, void*);
};

// Fills the table; empty, or the name of a function that the library lacks.
template <class H>
std::string read_functions(void* file, Functions<H>& all) {
  std::string missing;
  const auto get = [&](auto& function, const char* name) {
    const std::string symbol = std::string("MPI_") + name;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol_in(file, symbol.c_str()));
    if (function == nullptr && missing.empty()) missing = symbol;
  };
  get(all.Get_library_version, "Get_library_version");
  get(all.Error_string, "Error_string");
  get(all.Initialized, "Initialized");
  get(all.Finalized, "Finalized");
  get(all.Init_thread, "Init_thread");
  get(all.Query_thread, "Query_thread");
  get(all.Finalize, "Finalize");
  get(all.Abort, "Abort");
  get(all.Comm_dup, "Comm_dup");
  get(all.Comm_split, "Comm_split");
  get(all.Comm_free, "Comm_free");
  get(all.Comm_rank, "Comm_rank");
  get(all.Comm_size, "Comm_size");
  get(all.Comm_set_errhandler, "Comm_set_errhandler");
  get(all.Op_create, "Op_create");
  get(all.Iallreduce, "Iallreduce");
  get(all.Iallgather, "Iallgather");
  get(all.Iallgatherv, "Iallgatherv");
  get(all.Test, "Test");
  return missing;
}

template <class Abi>
class LibraryOf : public Library {
 public:
  using H = typename Abi::Handle;

  LibraryOf(void* file, const Functions<H>& functions)
      : mpi_(functions), abi_([file](const char* name) { return symbol_in(file, name); }) {
    if constexpr (Abi::kFromFortran != nullptr)
      from_fortran_ = reinterpret_cast<H (*)(int)>(symbol_in(file, Abi::kFromFortran));
  }

  std::string version() override {
    char text[kTextBytes] = {};
    int length = 0;
    return call(mpi_.Get_library_version, text, &length) == 0 ? text : "";
  }

  std::string text_of(int error) override {
    char text[kTextBytes] = {};
    int length = 0;
    return call(mpi_.Error_string, error, text, &length) == 0 ? text : "error " + std::to_string(error);
  }

  int running(bool& running) override {
    int started = 0, ended = 0;
    const int error = first_error(call(mpi_.Initialized, &started), call(mpi_.Finalized, &ended));
    running = started != 0 && ended == 0;
    return error;
  }

  int was_finalized(bool& finalized) override {
    int ended = 0;
    const int error = call(mpi_.Finalized, &ended);
    finalized = ended != 0;
    return error;
  }

  int start(bool& allowed) override {
    int level = 0;
    const int error = call(mpi_.Init_thread, nullptr, nullptr, Abi::kMultiple, &level);
    allowed = level >= Abi::kSerialized;
    return error;
  }

  int allows_threads(bool& allowed) override {
    int level = 0;
    const int error = call(mpi_.Query_thread, &level);
    allowed = level >= Abi::kSerialized;
    return error;
  }

  int finalize() override { return call(mpi_.Finalize); }

  // Without taking turns: what another thread waits for may never come.
  void abort(int exit_code) override { mpi_.Abort(abi_.world, exit_code); }

  Handle world() override { return erased(abi_.world); }

  Handle from_fortran(int communicator) override {
    if constexpr (Abi::kFromFortran == nullptr) return communicator;
    return from_fortran_ == nullptr ? erased(abi_.world) : erased(from_fortran_(communicator));
  }

  int duplicate(Handle communicator, Handle& copy) override {
    H made{};
    const int error = call(mpi_.Comm_dup, typed(communicator), &made);
    copy = erased(made);
    return error != 0 ? error : call(mpi_.Comm_set_errhandler, made, abi_.errors_return);
  }

  int split(Handle communicator, int color, int key, Handle& part) override {
    H made{};
    const int error = call(mpi_.Comm_split, typed(communicator), color, key, &made);
    part = erased(made);
    return error != 0 ? error : call(mpi_.Comm_set_errhandler, made, abi_.errors_return);
  }

  int free(Handle communicator) override {
    H handle = typed(communicator);
    return call(mpi_.Comm_free, &handle);
  }

  int rank(Handle communicator, int& rank) override { return call(mpi_.Comm_rank, typed(communicator), &rank); }
  int size(Handle communicator, int& size) override { return call(mpi_.Comm_size, typed(communicator), &size); }

  int all_reduce(Handle communicator, const double* values, double* out, int count, bool is_maximum,
                 Handle& request) override {
    if (is_maximum && !has_maximum_) {
      const int error = call(mpi_.Op_create, maximum<H>, 1, &maximum_);
      if (error != 0) return error;
      has_maximum_ = true;
    }
    H made{};
    const int error = call(mpi_.Iallreduce, values, out, count, abi_.doubles, is_maximum ? maximum_ : abi_.sum,
                           typed(communicator), &made);
    request = erased(made);
    return error;
  }

  int all_gather(Handle communicator, const double* values, double* out, int count, Handle& request) override {
    H made{};
    const int error =
        call(mpi_.Iallgather, values, count, abi_.doubles, out, count, abi_.doubles, typed(communicator), &made);
    request = erased(made);
    return error;
  }

  int all_gather(Handle communicator, const double* values, int count, double* out, const int* counts,
                 const int* offsets, Handle& request) override {
    H made{};
    const int error = call(mpi_.Iallgatherv, values, count, abi_.doubles, out, counts, offsets, abi_.doubles,
                           typed(communicator), &made);
    request = erased(made);
    return error;
  }

  int test(Handle& request, bool& done) override {
    alignas(16) char status[128];  // an MPI_Status has 20 to 32 bytes
    H handle = typed(request);
    int flag = 0;
    const int error = call(mpi_.Test, &handle, &flag, status);
    request = erased(handle);
    done = flag != 0;
    return error;
  }

 private:
  static constexpr int kTextBytes = 8192;  // MPI_MAX_LIBRARY_VERSION_STRING, the longest of them

  static Handle erased(H handle) {
    if constexpr (std::is_pointer_v<H>)
      return reinterpret_cast<Handle>(handle);
    else
      return handle;
  }
  static H typed(Handle handle) {
    if constexpr (std::is_pointer_v<H>)
      return reinterpret_cast<H>(handle);
    else
      return static_cast<H>(handle);
  }
  static int first_error(int a, int b) { return a != 0 ? a : b; }

  template <class Function, class... Given>
  int call(Function function, Given... given) {
    const std::lock_guard turn(turns_);
    return function(given...);
  }

  Functions<H> mpi_;
  Abi abi_;
  H (*from_fortran_)(int) = nullptr;
  H maximum_{};
  bool has_maximum_ = false;
  std::mutex turns_;
};

template <class Abi>
std::unique_ptr<Library> read(void* file, std::string& failure) {
  Functions<typename Abi::Handle> functions{};
  const std::string missing = read_functions(file, functions);
  if (missing.empty()) return std::make_unique<LibraryOf<Abi>>(file, functions);
  failure = "it has no " + missing;
  return nullptr;
}

bool follows_standard_abi(void* file) {
  const auto version = reinterpret_cast<int (*)(int*, int*)>(symbol_in(file, "MPI_Abi_get_version"));
  int major = -1, minor = -1;  // -1 is also what a library with an interface of its own says
  return version != nullptr && version(&major, &minor) == 0 && major >= 1;
}

// Told apart by what they are: file names are not the same everywhere, and one name is used by two of them.
std::unique_ptr<Library> recognise(void* file, std::string& failure) {
  if (symbol_in(file, "ompi_mpi_comm_world") != nullptr) return read<OpenMpiAbi>(file, failure);
  if (follows_standard_abi(file)) return read<StandardAbi>(file, failure);
  std::unique_ptr<Library> mpich = read<MpichAbi>(file, failure);
  if (mpich == nullptr) return nullptr;
  const std::string version = mpich->version();
  for (const char* name : {"MPICH", "Intel", "MVAPICH"})
    if (version.find(name) != std::string::npos) return mpich;
  failure = "it is neither Open MPI, nor MPICH or compatible with it, nor has it the ABI of MPI 5";
  return nullptr;
}

}  // namespace

std::unique_ptr<Library> Library::open(const std::string& file, std::string& failure) {
  void* opened = open_file(file.c_str(), failure);
  if (opened == nullptr) return nullptr;
  std::unique_ptr<Library> library = recognise(opened, failure);
  if (library == nullptr) failure = file + ": " + failure;
  return library;
}

}  // namespace rlvr::mpi
