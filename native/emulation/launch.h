// Launching a kernel.
#pragma once

#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulation/launch_record.h"
#include "emulation/runtime_api.h"

namespace rlvr::emulation {
namespace detail {

cudaError_t run(Launch launch);
void check_pointer_argument(const void* kernel, int index, const volatile void* pointer, bool running);

template <typename T>
void check_argument(const void* kernel, int index, const T& value, bool running) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>)
    check_pointer_argument(kernel, index, value, running);
}

template <typename... P>
void run_translation(const Translation& translation, const P&... values) {
  const unsigned char* const parameters[] = {reinterpret_cast<const unsigned char*>(&values)..., nullptr};
  translation.run(parameters);
}

}  // namespace detail

// kernel<<<grid, block, 0, stream>>>(args...). A bad configuration, a host pointer among the arguments, or a mistake
// inside the kernel ends the process.
template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A&&... args) {
  static_assert((!std::is_reference_v<P> && ...), "kernel parameters are passed by value");
  using Arguments = std::pair<void (*)(P...), std::tuple<P...>>;
  auto arguments = std::make_shared<const Arguments>(kernel, std::tuple<P...>(std::forward<A>(args)...));
  const auto check_arguments = [](const detail::Launch& launch, bool running) {
    std::apply(
        [&](const P&... values) {
          int i = 0;
          (detail::check_argument(launch.kernel, i++, values, running), ...);
          (void)i;
        },
        static_cast<const Arguments*>(launch.arguments.get())->second);
  };
  const auto run_thread = [](const detail::Launch& launch) {
    const auto& [function, values] = *static_cast<const Arguments*>(launch.arguments.get());
    if (launch.translation == nullptr)
      std::apply(function, values);
    else
      std::apply([&](const P&... each) { detail::run_translation(*launch.translation, each...); }, values);
  };
  const auto* const address = reinterpret_cast<const void*>(kernel);
  const detail::Translation* const translation = detail::translation_of(address, {sizeof(P)...});
  return detail::run(
      {address, grid, block, stream, run_thread, check_arguments, translation, std::move(arguments)});
}

}  // namespace rlvr::emulation
