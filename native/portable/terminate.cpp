// What the C++ runtime does with an exception that nobody catches: only end the process. Its own handler first prints the name of
// the exception's type, and what reads such names takes 70 kB.
#include <cstdlib>

namespace __gnu_cxx {

void __verbose_terminate_handler() { std::abort(); }

}  // namespace __gnu_cxx
