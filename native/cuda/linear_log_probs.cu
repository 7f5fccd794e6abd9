// linear-log-probs on the GPU; formulas in ops/linear_log_probs.h, spec section 10.
//
// Some rows at a time: their hidden states are gathered, with zeros for those that take no part (so that these enter no
// sum, whatever they hold), a product of cuBLASLt makes their logits in float32, and the kernels of token-log-probs go
// over those rows. Backward, the gradient takes the logits' place, and two more products take it to the hidden states
// and the weight; sums over all rows are in float32 until they are written. Everything is enqueued without waiting, and
// the same call gives the same bits.
#include <optional>

#include "cuda/layer_products.h"
#include "cuda/linear_rows.h"
#include "cuda/ops.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Rows whose logits are held at a time.
int64_t rows_at_a_time(const LinearLogits& logits, bool kept) {
  if (kept) return logits.tokens;
  const int64_t fit = logits.chunk_bytes / (LayerProducts::aligned(logits.vocab) * kFloat);
  return std::clamp<int64_t>(fit, 1, logits.tokens);
}

template <class Array>
Array* from_row(Array* array, int64_t first) {
  return array == nullptr ? nullptr : array + first;
}

// The first error ends the work.
class Steps {
 public:
  template <class Step>
  void then(Step step) {
    if (error_ == cudaSuccess) error_ = step();
  }
  cudaError_t error() const { return error_; }

 private:
  cudaError_t error_ = cudaSuccess;
};

class Forward {
 public:
  Forward(const LinearLogProbsForward& op, PhaseQueue& queue, const lt::Library& library)
      : op_(op),
        queue_(queue),
        memory_(queue.context()),
        rows_(rows_at_a_time(op.logits, op.kept_logits.data != nullptr)),
        stride_(LayerProducts::aligned(op.logits.vocab)),
        layer_(op_.logits, LayerProducts::Pass::kForward, rows_, library, memory_, queue.stream()),
        logits_(op.kept_logits.data != nullptr ? op.kept_logits.data : memory_.take<float>(rows_ * stride_)) {}

  cudaError_t run() {
    Steps steps;
    steps.then([&] { return memory_.error(); });
    steps.then([&] { return take_scratch(); });
    for (int64_t first = 0; first < op_.logits.tokens; first += rows_) {
      const int64_t count = std::min(rows_, op_.logits.tokens - first);
      steps.then([&] { return layer_.take_rows(first, count, op_.logits.mask); });
      steps.then([&] { return layer_.logits(logits_, stride_); });
      steps.then([&] { return token_log_probs_forward(of_rows(first, count), queue_); });
    }
    return steps.error();
  }

 private:
  TokenLogProbsForward of_rows(int64_t first, int64_t count) const {
    const LinearLogits& all = op_.logits;
    return {{logits_,
             DType::kF32,
             count,
             all.vocab,
             stride_,
             all.targets + first,
             from_row(all.mask, first),
             all.temperature,
             op_.log_probs + first,
             op_.log_sum_exp + first,
             from_row(op_.entropy, first),
             op_.kept + first,
             op_.non_finite,
             scratch_,
             nullptr},
            {}};
  }

  // What few rows need to be shared by blocks.
  cudaError_t take_scratch() {
    const ScratchBytes needed = token_log_probs_scratch(of_rows(0, rows_));
    if (needed.bytes == 0) return cudaSuccess;
    scratch_ = memory_.take<char>(needed.bytes);
    if (scratch_ == nullptr) return memory_.error();
    return cudaMemsetAsync(scratch_, 0, static_cast<size_t>(needed.zeros), queue_.stream());
  }

  const LinearLogProbsForward& op_;
  PhaseQueue& queue_;
  Workspace memory_;
  int64_t rows_;
  int64_t stride_;
  LayerProducts layer_;
  float* logits_;  // [rows_, V]
  void* scratch_ = nullptr;
};

class Backward {
 public:
  Backward(const LinearLogProbsBackward& op, PhaseQueue& queue, const lt::Library& library)
      : op_(op),
        queue_(queue),
        memory_(queue.context()),
        kept_(const_cast<float*>(op.kept_logits.data)),
        rows_(rows_at_a_time(op.logits, kept_ != nullptr)),
        stride_(LayerProducts::aligned(op.logits.vocab)),
        layer_(op_.logits, LayerProducts::Pass::kBackward, rows_, library, memory_, queue.stream()),
        logits_(kept_ != nullptr ? kept_ : memory_.take<float>(rows_ * stride_)),
        part_(memory_.take<uint8_t>(op.logits.tokens)),
        bad_logits_(memory_.take<int32_t>(2)) {
    const int64_t width = LayerProducts::aligned(op.logits.width);
    if (op.grad_hidden.data != nullptr) grad_hidden_ = memory_.take<float>(rows_ * width);
    if (op.grad_weight.data != nullptr) grad_weight_ = weight_sums(width);
    if (op.grad_bias.data == nullptr) return;
    bias_sums_ = memory_.take<double>(op.logits.vocab);
    grad_bias_ = memory_.take<float>(op.logits.vocab);
  }

  cudaError_t run() {
    steps_.then([&] { return memory_.error(); });
    // What is not finite is looked for in what is written in the end.
    steps_.then([&] { return cudaMemsetAsync(bad_logits_, 0xff, 2 * sizeof(int32_t), queue_.stream()); });
    steps_.then([&] { return find_rows(op_, part_, queue_.stream()); });
    if (adds_in_place() && !op_.grad_weight.accumulate) write_weight(nullptr);
    for (int64_t first = 0; first < op_.logits.tokens; first += rows_)
      add_rows(first, std::min(rows_, op_.logits.tokens - first));
    if (grad_weight_ != nullptr) write_weight(grad_weight_);
    if (grad_bias_ != nullptr) write_bias(grad_bias_);
    return steps_.error();
  }

 private:
  // Sums of float32 need no memory but where they are wanted. Where nothing may be written, zeros are added.
  bool adds_in_place() const { return op_.grad_weight.data != nullptr && op_.grad_weight.dtype == DType::kF32; }

  float* weight_sums(int64_t width) {
    weight_stride_ = adds_in_place() ? op_.grad_weight.stride : width;
    return adds_in_place() ? static_cast<float*>(op_.grad_weight.data) : memory_.take<float>(op_.logits.vocab * width);
  }

  void add_rows(int64_t first, int64_t count) {
    const cudaStream_t stream = queue_.stream();
    steps_.then([&] { return layer_.take_rows(first, count, part_); });
    if (kept_ == nullptr) steps_.then([&] { return layer_.logits(logits_, stride_); });
    steps_.then([&] { return token_log_probs_backward(of_rows(first, count), queue_); });
    if (grad_bias_ != nullptr)
      steps_.then([&] {
        return sum_columns({logits_, stride_, count, op_.logits.vocab, first > 0, bias_sums_, grad_bias_}, stream);
      });
    steps_.then([&] { return layer_.take_gradient(logits_, stride_); });
    if (grad_hidden_ != nullptr) steps_.then([&] { return layer_.to_hidden(grad_hidden_); });
    if (grad_hidden_ != nullptr) write_hidden(first, count);
    if (grad_weight_ != nullptr)
      steps_.then([&] { return layer_.to_weight(grad_weight_, weight_stride_, first > 0 || adds_in_place()); });
  }

  // Rows that take no part become zeros, and are not read.
  TokenLogProbsBackward of_rows(int64_t first, int64_t count) const {
    const LinearLogits& all = op_.logits;
    return {{logits_,
             DType::kF32,
             count,
             all.vocab,
             stride_,
             all.targets + first,
             part_ + first,
             all.temperature,
             op_.log_sum_exp + first,
             op_.grad_log_probs + first,
             from_row(op_.entropy, first),
             from_row(op_.grad_entropy, first),
             nullptr,
             false,
             true,
             logits_,
             stride_,
             bad_logits_,
             nullptr},
            {},
            nullptr};
  }

  void write_hidden(int64_t first, int64_t count) {
    GradientMatrix to = op_.grad_hidden;
    to.data = static_cast<char*>(to.data) + first * to.stride * (to.dtype == DType::kF32 ? 4 : 2);
    const int64_t stride = LayerProducts::aligned(op_.logits.width);
    write({grad_hidden_, stride, to, count, op_.logits.width, part_ + first, op_.bad_rows, op_.bad_rows + 1, first,
           false});
  }

  void write_weight(const float* sums) {
    write({sums, weight_stride_, op_.grad_weight, op_.logits.vocab, op_.logits.width, nullptr, op_.bad_rows,
           op_.bad_rows + 2, 0, false});
  }

  void write_bias(const float* sums) {
    write({sums, 0, op_.grad_bias, 1, op_.logits.vocab, nullptr, op_.bad_rows, op_.bad_rows + 3, 0, true});
  }

  void write(const RowsWritten& rows) {
    steps_.then([&] { return write_rows(rows, queue_.stream()); });
  }

  const LinearLogProbsBackward& op_;
  PhaseQueue& queue_;
  Steps steps_;
  Workspace memory_;
  float* kept_;
  int64_t rows_;
  int64_t stride_;
  LayerProducts layer_;
  float* logits_;                 // [rows_, V], and their gradients
  uint8_t* part_;                 // [T]
  int32_t* bad_logits_;           // [2]
  float* grad_hidden_ = nullptr;  // [rows_, d]
  float* grad_weight_ = nullptr;  // [V, d]
  int64_t weight_stride_ = 0;
  double* bias_sums_ = nullptr;  // [V]
  float* grad_bias_ = nullptr;   // [V]
};

// Without rows: zeros.
cudaError_t write_nothing(const LinearLogProbsBackward& op, PhaseQueue& queue) {
  const cudaStream_t stream = queue.stream();
  int32_t* bad = op.bad_rows;
  const int64_t vocab = op.logits.vocab;
  const int64_t width = op.logits.width;
  Steps steps;
  steps.then([&] { return queue.flush(); });
  if (op.grad_weight.data != nullptr)
    steps.then([&] {
      return write_rows({nullptr, 0, op.grad_weight, vocab, width, nullptr, bad, bad + 2, 0, false}, stream);
    });
  if (op.grad_bias.data != nullptr)
    steps.then(
        [&] { return write_rows({nullptr, 0, op.grad_bias, 1, vocab, nullptr, bad, bad + 3, 0, true}, stream); });
  return steps.error();
}

cudaError_t find_products(std::optional<lt::Library>& library) {
  std::string failure;
  const lt::Functions* functions = lt::find_library(failure);
  if (functions == nullptr) return cudaErrorNotSupported;
  lt::Handle handle = nullptr;
  const cudaError_t error = lt::handle_of_device(*functions, handle);
  if (error == cudaSuccess) library.emplace(lt::Library{*functions, handle});
  return error;
}

// Of all rows.
TokenLogProbsBackward all_rows(const LinearLogProbsBackward& op) {
  TokenLogProbsBackward all{};
  all.tokens = op.logits.tokens;
  all.targets = op.logits.targets;
  all.mask = op.logits.mask;
  all.temperature = op.logits.temperature;
  all.grad_log_probs = op.grad_log_probs;
  all.entropy = op.entropy;
  all.grad_entropy = op.grad_entropy;
  all.bad_rows = op.bad_rows;
  return all;
}

}  // namespace

int64_t kept_logits_bytes(const LinearLogits& logits) {
  return logits.tokens * LayerProducts::aligned(logits.vocab) * kFloat;
}

cudaError_t linear_log_probs_forward(const LinearLogProbsForward& op, PhaseQueue& queue) {
  if (op.logits.tokens == 0) return cudaSuccess;
  std::optional<lt::Library> library;
  Steps steps;
  steps.then([&] { return find_products(library); });
  steps.then([&] { return queue.flush(); });
  steps.then([&] { return Forward(op, queue, *library).run(); });
  return steps.error();
}

cudaError_t linear_log_probs_backward(const LinearLogProbsBackward& op, PhaseQueue& queue) {
  if (op.logits.tokens == 0) return write_nothing(op, queue);
  std::optional<lt::Library> library;
  Steps steps;
  steps.then([&] { return find_products(library); });
  steps.then([&] { return check_upstream(all_rows(op), queue); });
  steps.then([&] { return queue.flush(); });
  steps.then([&] { return Backward(op, queue, *library).run(); });
  return steps.error();
}

}  // namespace rlvr::cuda
