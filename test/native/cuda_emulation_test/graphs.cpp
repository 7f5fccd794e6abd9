// Stream capture and graphs: what is recorded, what it does when launched, and what a capture forbids.
#include <thread>

#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

__global__ void add(int* out, int amount) { out[threadIdx.x] += amount; }

template <typename F>
cudaGraph_t capture(cudaStream_t stream, F work) {
  ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  work();
  cudaGraph_t graph = nullptr;
  ok(cudaStreamEndCapture(stream, &graph));
  return graph;
}

// What a call does that a capture forbids: it is refused, and the capture is lost.
template <typename F>
void forbidden(Refusals& refused, cudaStream_t stream, cudaError_t code, F call) {
  ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  refused(call(), code);
  cudaStreamCaptureStatus status;
  ok(cudaStreamIsCapturing(stream, &status));
  check(status == cudaStreamCaptureStatusInvalidated, "a spoilt capture");
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && graph == nullptr, "no graph");
  check(cudaGetLastError() == cudaErrorStreamCaptureInvalidated, "the end says so");
  ok(cudaStreamIsCapturing(stream, &status));
  check(status == cudaStreamCaptureStatusNone, "the capture is over");
  refused.end();
}

void graphs_replay() {
  Refusals refused;
  const Stream stream;
  const Device<int> counters(std::vector<int>(4, 100));
  const Pinned<int> in(4, 1);
  const Pinned<int> out(4, -1);
  const Device<int> scratch(4);
  int called = 0;
  const cudaGraph_t graph = capture(stream, [&] {
    cudaStreamCaptureStatus status;
    ok(cudaStreamIsCapturing(stream, &status));
    check(status == cudaStreamCaptureStatusActive, "it captures");
    int amount = 5;
    ok(emulation::launch(add, 1, 4, stream, counters.data(), amount));
    amount = 1000;  // the graph has its own
    ok(cudaMemsetAsync(scratch.data(), 0, 16, stream));
    ok(cudaMemcpyAsync(scratch.data(), in.data(), 8, cudaMemcpyHostToDevice, stream));
    ok(emulation::launch(add, 1, 4, stream, scratch.data(), 1));
    ok(cudaMemcpy2DAsync(out.data(), 8, scratch.data(), 8, 8, 2, cudaMemcpyDeviceToHost, stream));
    ok(cudaLaunchHostFunc(
        stream, [](void* count) { ++*static_cast<int*>(count); }, &called));
  });
  cudaGraphExec_t executable = nullptr;
  ok(cudaGraphInstantiate(&executable, graph));
  check(emulation::live_graphs() == 2, "a graph and an executable graph");
  ok(cudaGraphDestroy(graph));
  ok(cudaStreamSynchronize(stream));
  check(counters.host()[0] == 100 && out[0] == -1, "nothing ran so far");
  ok(cudaGraphLaunch(executable, stream));
  ok(cudaStreamSynchronize(stream));
  check(counters.host() == std::vector<int>(4, 105) && out[0] == 2 && out[3] == 1, "the graph, once");
  in[0] = 20;
  ok(cudaGraphLaunch(executable, stream));
  ok(cudaGraphLaunch(executable, stream));
  ok(cudaGraphExecDestroy(executable));  // it may, while its launches wait
  ok(cudaStreamSynchronize(stream));
  check(counters.host() == std::vector<int>(4, 115) && out[0] == 21 && called == 3, "twice more adds twice more");
  check(emulation::live_graphs() == 0, "no graph left");
  refused.end();
}

void graphs_hold_graphs() {
  const Stream stream;
  const Device<int> counter(std::vector<int>{0});
  const auto executable = [&](cudaGraph_t graph) {
    cudaGraphExec_t exec = nullptr;
    ok(cudaGraphInstantiate(&exec, graph, 0));
    ok(cudaGraphDestroy(graph));
    return exec;
  };
  const auto inner = executable(capture(stream, [&] { ok(emulation::launch(add, 1, 1, stream, counter.data(), 1)); }));
  const auto outer = executable(capture(stream, [&] {
    ok(cudaGraphLaunch(inner, stream));
    ok(cudaGraphLaunch(inner, stream));
  }));
  const Stream other;
  ok(cudaGraphLaunch(outer, stream));
  ok(cudaGraphLaunch(outer, other));  // after the first one: they are the same executable graph
  ok(cudaStreamSynchronize(other));
  check(counter.host()[0] == 4, "two launches of two launches");
  ok(cudaGraphExecDestroy(inner));
  ok(cudaGraphExecDestroy(outer));
}

void captures_refuse() {
  Refusals refused;
  const Stream stream;
  const Device<int> memory(4);
  const Event event;
  ok(cudaEventRecord(event, stream));
  ok(cudaStreamSynchronize(stream));
  int host[4] = {};
  void* pointer = nullptr;
  const cudaError_t unsupported = cudaErrorStreamCaptureUnsupported;
  forbidden(refused, stream, unsupported, [&] { return cudaStreamSynchronize(stream); });
  forbidden(refused, stream, unsupported, [&] { return cudaStreamQuery(stream); });
  forbidden(refused, stream, unsupported, [&] { return cudaEventSynchronize(event); });
  forbidden(refused, stream, unsupported, [&] { return cudaEventQuery(event); });
  forbidden(refused, stream, unsupported, [&] { return cudaDeviceSynchronize(); });
  forbidden(refused, stream, unsupported, [&] { return cudaStreamDestroy(stream); });
  forbidden(refused, stream, unsupported,
            [&] { return cudaMemcpyAsync(memory.data(), host, 16, cudaMemcpyHostToDevice, stream); });
  forbidden(refused, stream, unsupported, [&] { return cudaMemcpy(memory.data(), host, 16, cudaMemcpyHostToDevice); });
  forbidden(refused, stream, unsupported, [&] { return cudaMalloc(&pointer, 4); });
  forbidden(refused, stream, unsupported, [&] { return cudaFree(memory.data()); });
  forbidden(refused, stream, unsupported, [&] { return cudaMallocHost(&pointer, 4); });
  forbidden(refused, stream, cudaErrorNotSupported, [&] { return cudaMallocAsync(&pointer, 4, stream); });
  forbidden(refused, stream, cudaErrorNotSupported, [&] { return cudaFreeAsync(memory.data(), stream); });
  forbidden(refused, stream, cudaErrorIllegalState,
            [&] { return cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed); });
  forbidden(refused, stream, cudaErrorStreamCaptureIsolation, [&] { return cudaStreamWaitEvent(stream, event); });
  forbidden(refused, stream, cudaErrorCapturedEvent, [&] {
    const Event captured;
    ok(cudaEventRecord(captured, stream));
    ok(cudaStreamWaitEvent(stream, captured));
    return cudaEventSynchronize(captured);
  });
  const Stream blocking(cudaStreamDefault);
  forbidden(refused, blocking, cudaErrorStreamCaptureImplicit,
            [&] { return cudaMemsetAsync(memory.data(), 0, 4, nullptr); });
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, 0};
  cudaMemPool_t pool = nullptr;
  ok(cudaMemPoolCreate(&pool, &properties));
  forbidden(refused, stream, cudaErrorNotSupported, [&] { return cudaMallocFromPoolAsync(&pointer, 4, pool, stream); });
  ok(cudaMemPoolDestroy(pool));
}

void captures_of_other_threads() {
  Refusals refused;
  const Stream stream;
  cudaGraph_t graph = nullptr;
  void* pointer = nullptr;
  const auto elsewhere = [](auto call) { std::thread(call).join(); };
  ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  elsewhere([&] {
    refused(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureWrongThread);
    ok(cudaMalloc(&pointer, 4));
    ok(cudaFree(pointer));
  });
  ok(cudaStreamEndCapture(stream, &graph));
  ok(cudaGraphDestroy(graph));
  ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  ok(cudaMalloc(&pointer, 4));
  ok(cudaFree(pointer));
  elsewhere([&] { ok(cudaStreamEndCapture(stream, &graph)); });
  ok(cudaGraphDestroy(graph));
  ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  elsewhere([&] { refused(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported); });
  check(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated, "a global capture is everybody's");
  cudaGetLastError();
  refused.end();
}

void bad_handles_are_refused() {
  Refusals refused;
  const Stream stream;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  refused(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
  refused(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed), cudaErrorStreamCaptureUnsupported);
  refused(cudaGraphInstantiate(&executable, nullptr), cudaErrorInvalidValue);
  graph = capture(stream, [] {});
  refused(cudaGraphInstantiate(&executable, graph, 16), cudaErrorInvalidValue);
  ok(cudaGraphInstantiate(&executable, graph));
  ok(cudaGraphDestroy(graph));
  refused(cudaGraphDestroy(graph), cudaErrorInvalidValue);
  ok(cudaGraphExecDestroy(executable));
  refused(cudaGraphLaunch(executable, stream), cudaErrorInvalidValue);
  refused(cudaGraphExecDestroy(executable), cudaErrorInvalidValue);
  refused.end();
  dies(
      [&] {
        int* memory = nullptr;
        ok(cudaMalloc(&memory, 4));
        const cudaGraph_t dangling = capture(stream, [&] { ok(emulation::launch(add, 1, 1, stream, memory, 1)); });
        ok(cudaGraphInstantiate(&executable, dangling));
        ok(cudaFree(memory));
        ok(cudaGraphLaunch(executable, stream));
        ok(cudaStreamSynchronize(stream));
      },
      {"argument 0 points to memory that was freed before the kernel ran", "add"});
}

}  // namespace

void graphs() {
  graphs_replay();
  graphs_hold_graphs();
  captures_refuse();
  captures_of_other_threads();
  bad_handles_are_refused();
}

}  // namespace rlvr::emulation_test
