#include "squish/quant/shared_codebooks.h"

#include <gmock/gmock.h>

#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

std::shared_ptr<const Section> learn(const std::string& spec, const std::vector<Matrix>& matrices,
                                     const std::vector<float>& importance = {}, int threads = 2) {
  ThreadPool pool(threads);
  std::size_t weights = 0;
  for (const Matrix& w : matrices) weights += w.size();
  SharedTraining training(Spec::parse(spec), weights, "shared", 1, pool);
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    training.add(matrices[i], importance, std::to_string(i));
  }
  return training.learn();
}

Packed encode_with(const Matrix& w, const std::string& spec, std::shared_ptr<const Section> shared,
                   const InputMoments* moments = nullptr) {
  ThreadPool pool(2);
  const Spec parsed = Spec::parse(spec);
  const auto prepared = moments == nullptr ? nullptr : prepare(*moments, parsed, pool);
  return quantize(w, parsed, {pool, 1, "test", prepared.get(), nullptr, std::move(shared)});
}

class SharedCodebooks : public testing::TestWithParam<const char*> {};

TEST_P(SharedCodebooks, StandInForTheMatrixsOwn) {
  const std::string spec = GetParam();
  std::vector<Matrix> matrices;
  for (unsigned i = 0; i < 6; ++i) matrices.push_back(gaussian(64 + 8 * i, 96, i, 0.01 * (1 + i)));
  const auto shared = learn(spec, matrices);
  const InputMoments moments = correlated(96);
  for (const Matrix& w : matrices) {
    const Packed packed = encode_with(w, spec, shared);
    EXPECT_EQ(packed.shared, shared);
    EXPECT_EQ(packed.bits().codebooks, 0u);
    const Packed own = encode(w, spec);
    EXPECT_EQ(own.shared, nullptr);
    EXPECT_EQ(packed.bits().total(), own.bits().total() - own.bits().codebooks);
    EXPECT_EQ(shared->bytes.size(), bytes_of(own, "codebook").size());
    // Learned on all, they fit one matrix nearly as well as its own, which it over-fits.
    EXPECT_GT(snr(w, decode(packed)), snr(w, decode(own)) - 1.9) << spec;
    const Packed seen = encode_with(w, spec, shared, &moments);
    EXPECT_EQ(seen.shared, shared);
    EXPECT_LT(loss(w, seen, moments), 0.8 * loss(w, packed, moments)) << spec;
  }
}

TEST_P(SharedCodebooks, DependOnAllMatricesAndOnNoThreads) {
  const std::vector<Matrix> both = {gaussian(64, 48, 1), gaussian(32, 80, 2)};
  const SharedBytes bytes = learn(GetParam(), both)->bytes;
  EXPECT_EQ(learn(GetParam(), both, {}, 1)->bytes, bytes);
  EXPECT_EQ(learn(GetParam(), both, {}, 3)->bytes, bytes);
  EXPECT_NE(learn(GetParam(), {both[0]})->bytes, bytes);
  EXPECT_NE(learn(GetParam(), {both[1]})->bytes, bytes);
}

TEST_P(SharedCodebooks, ScalesOfMatricesDoNotCount) {
  std::vector<Matrix> matrices = {gaussian(64, 48, 1), gaussian(64, 48, 2)};
  const SharedBytes bytes = learn(GetParam(), matrices)->bytes;
  for (float& w : std::span(matrices[1].data(), matrices[1].size())) w *= 1024;
  EXPECT_EQ(learn(GetParam(), matrices)->bytes, bytes);
}

TEST_P(SharedCodebooks, OfZerosAloneAreZero) {
  const Matrix zero(16, 24);
  const auto shared = learn(GetParam(), {zero});
  EXPECT_THAT(std::span(shared->bytes), testing::Each(std::byte{0}));
  const Matrix decoded = decode(encode_with(gaussian(16, 24, 1), GetParam(), shared));
  EXPECT_THAT(std::span(decoded.data(), decoded.size()), testing::Each(0.0f));
}

TEST_P(SharedCodebooks, ThatDoNotFitAreRefused) {
  const auto shared =
      std::make_shared<const Section>(Section{"codebook", Part::codebooks, Bytes(6)});
  EXPECT_THROW(encode_with(gaussian(16, 24, 1), GetParam(), shared), Error);
}

TEST_P(SharedCodebooks, TakeMatricesSmallerThanAVector) {
  const Matrix small = gaussian(3, 5, 1);
  const auto shared = learn(GetParam(), {small, gaussian(1, 1, 2)});
  EXPECT_GT(snr(small, decode(encode_with(small, GetParam(), shared))), 3);
}

INSTANTIATE_TEST_SUITE_P(Methods, SharedCodebooks,
                         testing::Values("vptq:v=8,k=64,r=4,share=role",
                                         "vptq:v=6,k=128,r=1,share=model",
                                         "aqlm:m=2,b=6,g=8,share=model",
                                         "aqlm:m=1,b=7,g=6,share=role"));

TEST(SharedCodebooks, CountInputsThatMatterForMore) {
  const std::vector<Matrix> matrices = {gaussian(256, 32, 1)};
  std::vector<float> importance(32, 1e-6f);
  importance[5] = 1;
  const std::string spec = "vptq:v=4,k=8,r=1,share=model";
  const Matrix &w = matrices[0], blind = decode(encode_with(w, spec, learn(spec, matrices))),
               seen = decode(encode_with(w, spec, learn(spec, matrices, importance)));
  const auto error = [&](const Matrix& decoded) {
    double sum = 0;
    for (std::size_t i = 0; i < 256; ++i) sum += std::pow(w(i, 5) - decoded(i, 5), 2);
    return sum;
  };
  EXPECT_LT(error(seen), 0.95 * error(blind));
}

TEST(SharedCodebooks, AreOfMethodsThatHaveTheKey) {
  EXPECT_EQ(sharing_of(Spec::parse("int4")), Sharing::none);
  EXPECT_EQ(sharing_of(Spec::parse("vptq")), Sharing::none);
  EXPECT_EQ(sharing_of(Spec::parse("aqlm:share=role")), Sharing::role);
  EXPECT_EQ(sharing_of(Spec::parse("vptq:share=model")), Sharing::model);
}

}  // namespace
}  // namespace squish::quant
