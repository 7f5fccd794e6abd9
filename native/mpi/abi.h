// What of MPI is not a function: handles and constants, which every implementation has fixed in its binary interface.
// They are written out here, so that no mpi.h is needed, and one addon works with whatever MPI the machine has.
//
//   Open MPI    libmpi.so.40 (releases 3.0 to 5): a handle is the address of a variable of the library
//   MPICH       libmpi.so.12, in Debian libmpich.so.12: a handle is an int. The MPICH ABI initiative has it the same in
//   Intel MPI, MVAPICH
//               and Cray MPICH
//   MPI 5 ABI   libmpi_abi.so: a handle is a pointer with a small number, from the standard (MPI 5.0, "Application
//   Binary Interface")
#pragma once

#include <cstdint>

namespace rlvr::mpi {

// `symbol` finds a variable of the library by name; null for one that it lacks.
struct OpenMpiAbi {
  using Handle = void*;
  template <class Symbol>
  explicit OpenMpiAbi(Symbol symbol)
      : world(symbol("ompi_mpi_comm_world")),
        doubles(symbol("ompi_mpi_double")),
        sum(symbol("ompi_mpi_op_sum")),
        errors_return(symbol("ompi_mpi_errors_return")) {}
  Handle world, doubles, sum, errors_return;
  static constexpr int kSerialized = 2, kMultiple = 3;
  static constexpr const char* kFromFortran = "MPI_Comm_f2c";
};

struct MpichAbi {
  using Handle = int;
  template <class Symbol>
  explicit MpichAbi(Symbol) {}
  Handle world = 0x44000000, doubles = 0x4c00080b, sum = 0x58000003, errors_return = 0x54000001;
  static constexpr int kSerialized = 2, kMultiple = 3;
  static constexpr const char* kFromFortran = nullptr;  // the same numbers
};

struct StandardAbi {
  using Handle = void*;
  template <class Symbol>
  explicit StandardAbi(Symbol) {}
  static Handle of(uintptr_t number) { return reinterpret_cast<Handle>(number); }
  Handle world = of(0x101), doubles = of(0x214), sum = of(0x21), errors_return = of(0x143);
  static constexpr int kSerialized = 2048, kMultiple = 4096;
  static constexpr const char* kFromFortran = "MPI_Comm_fromint";
};

}  // namespace rlvr::mpi
