// Streams for a library that is opened at run time and does collective work of its own on them: in tests, an NCCL that
// needs no GPU.
#pragma once

namespace rlvr::emulation {

// Called again, each time that something waits for the stream, until it returns other than 0: it is done. It must not
// wait itself. Device memory is open to it.
using StepOfOthers = int (*)(void* data);
// Puts a step on a stream; returns a cudaError_t.
using PutStep = int (*)(void* stream, StepOfOthers step, void* data);

// Calls `taker`, a function void (*)(PutStep) of that library. False if there is none.
bool offer_streams(void* taker);

}  // namespace rlvr::emulation
