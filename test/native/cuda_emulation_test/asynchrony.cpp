// Asynchronous mode: work runs when something waits for it, so a missing wait shows as a wrong value.
#include <thread>

#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

__global__ void set(int* out, int value) { *out = value; }
__global__ void copy(const int* in, int* out) { *out = *in; }

void to_device(const Device<int>& to, const Pinned<int>& from, cudaStream_t stream) {
  ok(cudaMemcpyAsync(to.data(), from.data(), 4, cudaMemcpyHostToDevice, stream));
}
void to_host(const Pinned<int>& to, const Device<int>& from, cudaStream_t stream) {
  ok(cudaMemcpyAsync(to.data(), from.data(), 4, cudaMemcpyDeviceToHost, stream));
}

void a_missing_wait_shows() {
  const Stream stream;
  const Device<int> device(1);
  const Pinned<int> result(1, -1);
  ok(emulation::launch(set, 1, 1, stream, device.data(), 7));
  to_host(result, device, stream);
  check(result[0] == -1, "a result read before the wait is not there");
  ok(cudaStreamSynchronize(stream));
  check(result[0] == 7, "after the wait it is");
}

void pinned_memory_reused_too_early_shows() {
  const Stream stream;
  const Device<int> first(1);
  const Device<int> second(1);
  const Pinned<int> staging(1, 1);
  to_device(first, staging, stream);
  staging[0] = 2;  // the mistake
  to_device(second, staging, stream);
  ok(cudaStreamSynchronize(stream));
  check(first.host()[0] == 2 && second.host()[0] == 2, "the first upload reads what came later");
  staging[0] = 3;
  to_device(first, staging, stream);
  const Event passed;
  ok(cudaEventRecord(passed, stream));
  ok(cudaEventSynchronize(passed));
  staging[0] = 4;
  to_device(second, staging, stream);
  ok(cudaStreamSynchronize(stream));
  check(first.host()[0] == 3 && second.host()[0] == 4, "unless the event is waited for");
}

void events_order_streams() {
  const Stream producer;
  const Stream consumer;
  const Device<int> value(std::vector<int>{0});
  const Device<int> seen(1);
  const auto consume = [&](bool wait) {
    const Event ready;
    ok(emulation::launch(set, 1, 1, producer, value.data(), 5));
    ok(cudaEventRecord(ready, producer));
    ok(emulation::launch(set, 1, 1, producer, value.data(), 6));  // after the event: nobody waits for it
    if (wait) ok(cudaStreamWaitEvent(consumer, ready));
    ok(emulation::launch(copy, 1, 1, consumer, static_cast<const int*>(value.data()), seen.data()));
    ok(cudaStreamSynchronize(consumer));
  };
  consume(false);
  check(seen.host()[0] == 0, "without a wait the consumer comes first");
  ok(cudaMemset(value.data(), 0, 4));
  consume(true);
  check(seen.host()[0] == 5, "the consumer sees the work before the event, and no more");
  ok(cudaStreamSynchronize(producer));
}

void polling_makes_progress() {
  const Stream stream;
  const Device<int> device(1);
  const Event event;
  ok(cudaEventQuery(event));  // never recorded
  for (int i = 0; i < 3; ++i) ok(emulation::launch(set, 1, 1, stream, device.data(), i));
  ok(cudaEventRecord(event, stream));
  ok(emulation::launch(set, 1, 1, stream, device.data(), 3));
  const auto polls = [](auto query) {
    int count = 0;
    while (query() == cudaErrorNotReady) ++count;
    check(cudaGetLastError() == (count > 0 ? cudaErrorNotReady : cudaSuccess), "not ready is an answer");
    return count;
  };
  check(polls([&] { return cudaEventQuery(event); }) == 4, "three launches and the record");
  check(polls([&] { return cudaStreamQuery(stream); }) == 1, "and the last launch");
  check(polls([&] { return cudaStreamQuery(stream); }) == 0 && device.host()[0] == 3, "all done");
  cudaEvent_t timed[2];
  for (cudaEvent_t& t : timed) {
    ok(cudaEventCreate(&t));
    ok(cudaEventRecord(t, stream));
  }
  float milliseconds = -1;
  check(cudaEventElapsedTime(&milliseconds, timed[0], timed[1]) == cudaErrorNotReady, "no time yet");
  cudaGetLastError();
  ok(cudaEventSynchronize(timed[1]));
  ok(cudaEventElapsedTime(&milliseconds, timed[0], timed[1]));
  check(milliseconds >= 0, "time passed");
  for (const cudaEvent_t t : timed) ok(cudaEventDestroy(t));
}

// Each of these waits, says CUDA.
void what_waits_waits() {
  const Pinned<int> result(1);
  const auto waits = [&](auto wait, const char* what) {
    const Stream stream;
    const Device<int> device(std::vector<int>{1});
    result[0] = -1;
    to_host(result, device, stream);
    check(result[0] == -1, "it has not run");
    wait(stream);
    check(result[0] == 1, what);
  };
  int local = 0;
  const Device<int> other(1);
  waits([](cudaStream_t) { ok(cudaDeviceSynchronize()); }, "cudaDeviceSynchronize");
  waits([&](cudaStream_t) { ok(cudaMemcpy(&local, other.data(), 4, cudaMemcpyDeviceToHost)); }, "cudaMemcpy");
  waits([&](cudaStream_t) { ok(cudaMemset(other.data(), 0, 4)); }, "cudaMemset");
  waits([](cudaStream_t) { const Device<int> freed(1); }, "cudaFree");
  waits([](cudaStream_t) { const Pinned<int> freed(1); }, "cudaFreeHost");
  waits(
      [&](cudaStream_t stream) {
        local = 9;
        ok(cudaMemcpyAsync(other.data(), &local, 4, cudaMemcpyHostToDevice, stream));
        local = 10;
        check(other.host()[0] == 9, "pageable memory is read before the call returns");
      },
      "a copy of pageable memory");
  waits([](cudaStream_t) { emulation::set_async(false); }, "the end of asynchrony");
  emulation::set_async(true);
  result[0] = 0;
  const Device<int> device(std::vector<int>{1});
  {
    const Stream stream;
    to_host(result, device, stream);
  }
  check(result[0] == 1, "cudaStreamDestroy");
  int* pooled = nullptr;
  result[0] = 0;
  const Stream stream;
  ok(cudaMallocAsync(&pooled, 4, stream));
  to_host(result, device, stream);
  ok(cudaFree(pooled));
  check(result[0] == 0, "cudaFree of stream-ordered memory waits for nobody");
  ok(cudaStreamSynchronize(stream));
}

void the_default_stream_orders_blocking_streams() {
  const Stream blocking(cudaStreamDefault);
  const Stream free(cudaStreamNonBlocking);
  const Device<int> value(std::vector<int>{0});
  const Pinned<int> seen(1, -1);
  ok(emulation::launch(set, 1, 1, blocking, value.data(), 1));
  ok(emulation::launch(set, 1, 1, free, value.data(), 2));
  to_host(seen, value, nullptr);
  ok(cudaStreamSynchronize(nullptr));
  check(seen[0] == 1, "the default stream waits for the blocking one only");
  ok(emulation::launch(set, 1, 1, nullptr, value.data(), 3));
  to_host(seen, value, blocking);
  ok(cudaStreamSynchronize(blocking));
  check(seen[0] == 3, "and the blocking one for the default stream");
  ok(cudaStreamSynchronize(free));
  check(value.host()[0] == 2, "the other one is on its own");
}

void frees_come_in_order() {
  Refusals refused;
  const Stream stream;
  int* memory = nullptr;
  ok(cudaMallocAsync(&memory, 4, stream));
  const int64_t live = emulation::live_allocations();
  ok(emulation::launch(set, 1, 1, stream, memory, 1));
  ok(cudaFreeAsync(memory, stream));
  check(emulation::live_allocations() == live, "the free waits for the kernel");
  refused(cudaFreeAsync(memory, stream), cudaErrorInvalidValue);
  refused(cudaMemsetAsync(memory, 0, 4, stream), cudaErrorInvalidValue);
  ok(cudaStreamSynchronize(stream));
  check(emulation::live_allocations() == live - 1, "and comes then");
  refused.end();
  const auto freed_too_early = [](auto use, bool ordered_free) {
    return [=] {
      const Stream first;
      const Stream second;
      int* shared = nullptr;
      ok(cudaMallocAsync(&shared, 4, first));
      use(shared, first);
      ok(ordered_free ? cudaFreeAsync(shared, second) : cudaFree(shared));
      ok(cudaStreamSynchronize(second));
      ok(cudaStreamSynchronize(first));
    };
  };
  const auto kernel = [](int* shared, cudaStream_t s) { ok(emulation::launch(set, 1, 1, s, shared, 1)); };
  const auto fill = [](int* shared, cudaStream_t s) { ok(cudaMemsetAsync(shared, 0, 4, s)); };
  dies(freed_too_early(kernel, true), {"argument 0 points to memory that was freed before the kernel ran", "set"});
  dies(freed_too_early(kernel, false), {"argument 0 points to memory that was freed before the kernel ran"});
  dies(freed_too_early(fill, true), {"a memset: its memory was freed before it ran"});
  dies(
      [] {
        int* gone = nullptr;
        ok(cudaMallocAsync(&gone, 4, nullptr));
        ok(cudaFreeAsync(gone, nullptr));
        ok(emulation::launch(set, 1, 1, nullptr, gone, 1));
      },
      {"argument 0 is no pointer to device memory"});
}

void host_functions_wait_their_turn() {
  const Stream stream;
  int called = 0;
  const Event event;
  ok(cudaLaunchHostFunc(
      stream,
      [](void* count) {
        check(cudaStreamQuery(nullptr) == cudaErrorNotPermitted, "no CUDA call in a host function");
        check(emulation::live_streams() == 1, "but questions to the emulation");
        ++*static_cast<int*>(count);
      },
      &called));
  ok(cudaEventRecord(event, stream));
  check(called == 0, "not yet");
  std::thread([&] { ok(cudaEventSynchronize(event)); }).join();
  check(called == 1, "on the thread that waits");
}

void threads_share_the_queues() {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      const Stream stream;
      const Pinned<int> in(1);
      const Pinned<int> out(1);
      const Device<int> device(1);
      for (int i = 0; i < 50; ++i) {
        in[0] = t * 1000 + i;
        to_device(device, in, stream);
        to_host(out, device, stream);
        ok(cudaStreamSynchronize(stream));
        check(out[0] == t * 1000 + i, "every thread its own");
      }
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void asynchrony() {
  emulation::set_async(true);
  a_missing_wait_shows();
  pinned_memory_reused_too_early_shows();
  events_order_streams();
  polling_makes_progress();
  what_waits_waits();
  the_default_stream_orders_blocking_streams();
  frees_come_in_order();
  host_functions_wait_their_turn();
  threads_share_the_queues();
  emulation::set_async(false);
  const Stream stream;
  const Device<int> device(1);
  const Pinned<int> result(1);
  ok(emulation::launch(set, 1, 1, stream, device.data(), 7));
  to_host(result, device, stream);
  check(result[0] == 7, "otherwise everything is done at once");
}

}  // namespace rlvr::emulation_test
