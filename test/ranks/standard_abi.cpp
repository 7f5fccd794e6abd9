// The part of MPI 5's binary interface that native/mpi uses, on top of MPICH, for machines without an MPI that has it.
// Handles and levels of threads are the standard's (MPI 5.0, appendix A); one that it does not have, or a function that
// takes another, is an error.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>

using Handle = void*;  // the standard's
using Operation = void(void*, void*, int*, void*);

extern "C" {
int PMPI_Get_library_version(char*, int*);
int PMPI_Error_string(int, char*, int*);
int PMPI_Initialized(int*);
int PMPI_Finalized(int*);
int PMPI_Init_thread(int*, char***, int, int*);
int PMPI_Query_thread(int*);
int PMPI_Finalize();
int PMPI_Abort(int, int);
int PMPI_Comm_dup(int, int*);
int PMPI_Comm_split(int, int, int, int*);
int PMPI_Comm_free(int*);
int PMPI_Comm_rank(int, int*);
int PMPI_Comm_size(int, int*);
int PMPI_Comm_set_errhandler(int, int);
int PMPI_Op_create(Operation*, int, int*);
int PMPI_Iallreduce(const void*, void*, int, int, int, int, int*);
int PMPI_Iallgather(const void*, int, int, void*, int, int, int, int*);
int PMPI_Iallgatherv(const void*, int, int, void*, const int*, const int*, int, int, int*);
int PMPI_Test(int*, int*, void*);
}

namespace {

// Not linked: MPICH's own calls of MPI would then come here.
template <class Function>
Function* mpich(const char* name) {
  static void* const file = dlopen("libmpich.so.12", RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function*>(dlsym(file, name));
}
#define IN_MPICH(name) mpich<decltype(PMPI_##name)>("PMPI_" #name)

// MPICH's handle. Its own, as they were given out, pass: they are far above the standard's constants.
int inner(Handle handle, uintptr_t standard, int mpich) {
  const auto number = reinterpret_cast<uintptr_t>(handle);
  if (number == standard) return mpich;
  if (number <= 0xfff) std::abort();
  return static_cast<int>(number);
}
int comm(Handle handle) { return inner(handle, 0x101, 0x44000000); }
int type(Handle handle) { return inner(handle, 0x214, 0x4c00080b); }
int op(Handle handle) { return inner(handle, 0x21, 0x58000003); }
int handler(Handle handle) { return inner(handle, 0x143, 0x54000001); }

int outer(int error, const int& handle, Handle* out) {
  *out = reinterpret_cast<Handle>(static_cast<uintptr_t>(static_cast<unsigned>(handle)));
  return error;
}

}  // namespace

extern "C" {
int MPI_Abi_get_version(int* major, int* minor) { return *major = 1, *minor = 0, 0; }
int MPI_Get_library_version(char* text, int* length) { return IN_MPICH(Get_library_version)(text, length); }
int MPI_Error_string(int error, char* text, int* length) { return IN_MPICH(Error_string)(error, text, length); }
int MPI_Initialized(int* flag) { return IN_MPICH(Initialized)(flag); }
int MPI_Finalized(int* flag) { return IN_MPICH(Finalized)(flag); }
int MPI_Init_thread(int* argc, char*** argv, int wanted, int* level) {
  if (wanted != 4096) std::abort();
  const int error = IN_MPICH(Init_thread)(argc, argv, 3, level);
  *level = *level == 0 ? 0 : 512 << *level;
  return error;
}
int MPI_Query_thread(int* level) {
  const int error = IN_MPICH(Query_thread)(level);
  *level = *level == 0 ? 0 : 512 << *level;
  return error;
}
int MPI_Finalize() { return IN_MPICH(Finalize)(); }
int MPI_Abort(Handle on, int code) { return IN_MPICH(Abort)(comm(on), code); }
Handle MPI_Comm_fromint(int handle) { return reinterpret_cast<Handle>(static_cast<uintptr_t>(handle)); }
int MPI_Comm_dup(Handle of, Handle* copy) {
  int made = 0;
  return outer(IN_MPICH(Comm_dup)(comm(of), &made), made, copy);
}
int MPI_Comm_split(Handle of, int color, int key, Handle* part) {
  int made = 0;
  return outer(IN_MPICH(Comm_split)(comm(of), color, key, &made), made, part);
}
int MPI_Comm_free(Handle* handle) {
  int own = comm(*handle);
  return IN_MPICH(Comm_free)(&own);
}
int MPI_Comm_rank(Handle of, int* rank) { return IN_MPICH(Comm_rank)(comm(of), rank); }
int MPI_Comm_size(Handle of, int* size) { return IN_MPICH(Comm_size)(comm(of), size); }
int MPI_Comm_set_errhandler(Handle of, Handle given) { return IN_MPICH(Comm_set_errhandler)(comm(of), handler(given)); }
int MPI_Op_create(Operation* function, int commutes, Handle* made) {
  int own = 0;
  return outer(IN_MPICH(Op_create)(function, commutes, &own), own, made);
}
int MPI_Iallreduce(const void* in, void* out, int count, Handle of, Handle with, Handle on, Handle* request) {
  int made = 0;
  return outer(IN_MPICH(Iallreduce)(in, out, count, type(of), op(with), comm(on), &made), made, request);
}
int MPI_Iallgather(const void* in, int count, Handle of, void* out, int each, Handle to, Handle on, Handle* request) {
  int made = 0;
  return outer(IN_MPICH(Iallgather)(in, count, type(of), out, each, type(to), comm(on), &made), made, request);
}
int MPI_Iallgatherv(const void* in, int count, Handle of, void* out, const int* counts, const int* offsets, Handle to,
                    Handle on, Handle* request) {
  int made = 0;
  return outer(IN_MPICH(Iallgatherv)(in, count, type(of), out, counts, offsets, type(to), comm(on), &made), made,
               request);
}
int MPI_Test(Handle* request, int* flag, void* status) {
  int own = static_cast<int>(reinterpret_cast<uintptr_t>(*request));
  const int error = IN_MPICH(Test)(&own, flag, status);
  return outer(error, own, request);
}
}
