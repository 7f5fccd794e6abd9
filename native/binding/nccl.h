// The JS side of a communicator over NCCL.
#pragma once

#include <napi.h>

#include <memory>

#include "binding/arguments.h"
#include "nccl/communicator.h"

namespace rlvr::binding {

// class Nccl { openAsync, adopt, reduce, gather, sum, close (and ...Async of these four), wait, dispose }; made by a
// device.
class NcclRank : public Napi::ObjectWrap<NcclRank> {
 public:
  static Napi::Function define(Napi::Env env);
  // (longest): milliseconds that other ranks are waited for.
  static Napi::Value create(const Napi::CallbackInfo& info, std::shared_ptr<cuda::DeviceContext> context);

  explicit NcclRank(const Napi::CallbackInfo& info);
  ~NcclRank() override { drop(); }

  // What a function does, from its arguments: null, and something thrown, where they are wrong.
  struct Job;

 private:
  using Reader = std::unique_ptr<Job> (NcclRank::*)(Arguments& arguments);
  template <Reader kRead, bool kAsync>
  Napi::Value run(const Napi::CallbackInfo& info) {
    return run(info, kRead, kAsync);
  }
  Napi::Value run(const Napi::CallbackInfo& info, Reader read, bool async);
  std::unique_ptr<Job> open(Arguments& arguments);
  std::unique_ptr<Job> adopt(Arguments& arguments);
  std::unique_ptr<Job> reduce(Arguments& arguments);
  std::unique_ptr<Job> gather(Arguments& arguments);
  std::unique_ptr<Job> sum(Arguments& arguments);
  std::unique_ptr<Job> close(Arguments& arguments);
  Napi::Value wait(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  void drop();

  std::shared_ptr<nccl::Communicator> communicator_;  // null once it was disposed of
};

// load(file), uniqueId()
Napi::Object nccl_table(Napi::Env env);

}  // namespace rlvr::binding
