// cuBLASLt's matrices are column-major: what is [r, c] in rows is [c, r] there. So out^T = right^T . left^T is asked
// for, with right as its A and left as its B; a matrix that is transposed here is transposed there.
#include "cuda/products.h"

#include <algorithm>
#include <array>

namespace rlvr::cuda {
namespace {

lt::DataType type_of(DType dtype) {
  return dtype == DType::kF32 ? lt::kR32F : dtype == DType::kBF16 ? lt::kR16BF : lt::kR16F;
}

// What an address is a multiple of, as far as it matters.
uint32_t alignment_of(const void* address) {
  constexpr uintptr_t kMost = 256;
  const auto bits = reinterpret_cast<uintptr_t>(address) | kMost;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// All that an algorithm depends on.
using Shape = std::array<int64_t, 12>;

Shape shape_of(const Product& p) {
  return {p.rows,
          p.columns,
          p.depth,
          p.left.stride,
          p.right.stride,
          p.out_stride,
          static_cast<int64_t>(p.left.dtype),
          p.left_transposed,
          p.right_transposed,
          alignment_of(p.left.data),
          alignment_of(p.right.data),
          alignment_of(p.out)};
}

}  // namespace

// The descriptors of a shape, and its algorithm.
class Products::Plan {
 public:
  Plan(const lt::Library& library, const Product& product) : library_(library), shape_(shape_of(product)) {}
  ~Plan() {
    const lt::Functions& f = library_.functions;
    for (lt::Layout layout : {a_, b_, out_})
      if (layout != nullptr) f.MatrixLayoutDestroy(layout);
    if (preference_ != nullptr) f.MatmulPreferenceDestroy(preference_);
    if (desc_ != nullptr) f.MatmulDescDestroy(desc_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  bool is_for(const Product& product) const { return shape_ == shape_of(product); }

  lt::Status make(const Product& p) {
    describe(p);
    prefer(p);
    int found = 0;
    step(library_.functions.MatmulAlgoGetHeuristic, library_.handle, desc_, a_, b_, out_, out_, preference_, 1, &best_,
         &found);
    if (status_ == lt::kSuccess && found == 0) status_ = lt::kNotSupported;
    return status_ == lt::kSuccess ? best_.status : status_;
  }

  lt::Status run(const Product& p, void* workspace, cudaStream_t stream) const {
    const float alpha = 1;
    const float beta = p.add ? 1 : 0;
    return library_.functions.Matmul(library_.handle, desc_, &alpha, p.right.data, a_, p.left.data, b_, &beta, p.out,
                                     out_, p.out, out_, &best_.algorithm, workspace, kWorkspaceBytes, stream);
  }

 private:
  // Calls a function unless one before it has failed.
  template <class Function, class... Arguments>
  void step(Function function, Arguments... arguments) {
    if (status_ == lt::kSuccess) status_ = function(arguments...);
  }

  void describe(const Product& p) {
    const lt::Functions& f = library_.functions;
    step(f.MatmulDescCreate, &desc_, lt::kCompute32F, lt::kR32F);
    const int32_t a = p.right_transposed ? lt::kOpT : lt::kOpN;
    const int32_t b = p.left_transposed ? lt::kOpT : lt::kOpN;
    step(f.MatmulDescSetAttribute, desc_, lt::kDescTransA, &a, sizeof a);
    step(f.MatmulDescSetAttribute, desc_, lt::kDescTransB, &b, sizeof b);
    const lt::DataType type = type_of(p.left.dtype);
    lay_out(a_, type, p.right_transposed ? p.depth : p.columns, p.right_transposed ? p.columns : p.depth,
            p.right.stride);
    lay_out(b_, type, p.left_transposed ? p.rows : p.depth, p.left_transposed ? p.depth : p.rows, p.left.stride);
    lay_out(out_, lt::kR32F, p.columns, p.rows, p.out_stride);
  }

  void lay_out(lt::Layout& layout, lt::DataType type, int64_t rows, int64_t columns, int64_t stride) {
    step(library_.functions.MatrixLayoutCreate, &layout, type, static_cast<uint64_t>(rows),
         static_cast<uint64_t>(columns), stride);
  }

  void prefer(const Product& p) {
    step(library_.functions.MatmulPreferenceCreate, &preference_);
    prefer(lt::kMaxWorkspaceBytes, static_cast<uint64_t>(kWorkspaceBytes));
    prefer(lt::kReductionSchemeMask, lt::kReduceInComputeType);
    prefer(lt::kMinAlignmentA, alignment_of(p.right.data));
    prefer(lt::kMinAlignmentB, alignment_of(p.left.data));
    prefer(lt::kMinAlignmentC, alignment_of(p.out));
    prefer(lt::kMinAlignmentD, alignment_of(p.out));
  }

  template <class Value>
  void prefer(lt::PreferenceAttribute attribute, Value value) {
    step(library_.functions.MatmulPreferenceSetAttribute, preference_, attribute, &value, sizeof value);
  }

  const lt::Library& library_;
  Shape shape_;
  lt::Status status_ = lt::kSuccess;
  lt::Desc desc_ = nullptr;
  lt::Layout a_ = nullptr;
  lt::Layout b_ = nullptr;
  lt::Layout out_ = nullptr;
  lt::Preference preference_ = nullptr;
  lt::Heuristic best_{};
};

Products::Products(const lt::Library& library, cudaStream_t stream, void* workspace)
    : library_(library), stream_(stream), workspace_(workspace) {}

Products::~Products() = default;

cudaError_t Products::plan_for(const Product& product, const Plan*& plan) {
  const auto found =
      std::find_if(plans_.begin(), plans_.end(), [&](const auto& known) { return known->is_for(product); });
  if (found != plans_.end()) {
    plan = found->get();
    return cudaSuccess;
  }
  auto fresh = std::make_unique<Plan>(library_, product);
  if (const lt::Status status = fresh->make(product); status != lt::kSuccess) return lt::error_of(status);
  plan = fresh.get();
  plans_.push_back(std::move(fresh));
  return cudaSuccess;
}

cudaError_t Products::multiply(const Product& product) {
  const Plan* plan = nullptr;
  const cudaError_t error = plan_for(product, plan);
  return error == cudaSuccess ? lt::error_of(plan->run(product, workspace_, stream_)) : error;
}

}  // namespace rlvr::cuda
