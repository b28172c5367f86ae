#include "squish/quant/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "squish/base/error.h"
#include "squish/quant/quantizer.h"

namespace squish::quant {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Spec, FillsInDefaultsInTheOrderOfTheMethod) {
  const Spec spec = Spec::parse("int4:g=32");
  EXPECT_EQ(spec.method(), "int4");
  EXPECT_EQ(spec.asked(), "int4:g=32");
  EXPECT_EQ(spec.full(), "int4:sym=0,g=32,clip=none,scale=f32,order=act,damp=0.01,sweeps=3");
  EXPECT_EQ(spec.integer("g"), 32);
  EXPECT_EQ(spec.integer("sym"), 0);
  EXPECT_EQ(spec.word("clip"), "none");
  EXPECT_EQ(Spec::parse("int4").full(),
            "int4:sym=0,g=64,clip=none,scale=f32,order=act,damp=0.01,sweeps=3");
}

TEST(Spec, IsEqualWhereItMeansTheSame) {
  EXPECT_EQ(Spec::parse("int4:g=064,sym=1"), Spec::parse("int4:sym=1"));
  EXPECT_EQ(Spec::parse("int4:g=064").full(), Spec::parse("int4:g=64").full());
  EXPECT_FALSE(Spec::parse("int4") == Spec::parse("int3"));
  EXPECT_FALSE(Spec::parse("int4:g=64") == Spec::parse("int4:g=32"));
  EXPECT_EQ(Spec::parse("aqlm:tol=1e-2"), Spec::parse("aqlm:tol=0.01"));
  EXPECT_DOUBLE_EQ(Spec::parse("aqlm:tol=1e-2").real("tol"), 0.01);
}

TEST(Spec, ComesBackFromItsFullText) {
  for (const Method& method : methods()) {
    const Spec spec = Spec::parse(method.name);
    const Spec again = Spec::parse(spec.full());
    EXPECT_EQ(again.full(), spec.full());
    for (const Key& key : method.keys) EXPECT_EQ(spec.word(key.name), key.fallback) << method.name;
  }
}

TEST(Spec, RejectsWhatItDoesNotUnderstand) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"", "unknown method ''"},
      {"int9", "unknown method 'int9': expected one of int4"},
      {"INT4", "unknown method 'INT4'"},
      {" int4", "unknown method ' int4'"},
      {"int4:", "'' is not key=value"},
      {"int4:g",
       "'g' is not key=value with a key of int4 (sym, g, clip, scale, order, damp, sweeps)"},
      {"int4:g=32,", "'' is not key=value"},
      {"int4:,g=32", "'' is not key=value"},
      {"int4:group=32", "'group' is not key=value"},
      {"int4:g=32,g=64", "key 'g' is given twice"},
      {"int4:g=", "g=, expected a whole number from 0 to 1048576"},
      {"int4:g=-1", "g=-1, expected a whole number"},
      {"int4:g=1048577", "expected a whole number from 0 to 1048576"},
      {"int4:g=99999999999999999999999", "expected a whole number"},
      {"int4:g=32x", "g=32x, expected a whole number"},
      {"int4:g= 32", "g= 32, expected a whole number"},
      {"int4:g=3.5", "g=3.5, expected a whole number"},
      {"int4:g=32:sym=1", "g=32:sym=1, expected a whole number"},
      {"int4:sym=2", "sym=2, expected one of 0, 1"},
      {"int4:clip=MSE", "clip=MSE, expected one of none, mse"},
      {"aqlm:tol=2", "tol=2, expected a number from 0 to 1"},
      {"aqlm:tol=nan", "tol=nan, expected a number"},
      {"aqlm:tol=inf", "tol=inf, expected a number"},
      {"quip:bits=5", "bits=5, expected a whole number from 2 to 4"},
      {"quip:form=gain,bits=4", "form=gain has a fixed rate"},
  };
  for (const auto& [text, message] : wrong) {
    EXPECT_THAT([&] { Spec::parse(text); }, ThrowsMessage<UsageError>(HasSubstr(message))) << text;
  }
}

TEST(Spec, SaysWhichKeyItLacks) {
  const Spec spec = Spec::parse("int4");
  EXPECT_THAT([&] { spec.word("bits"); }, ThrowsMessage<Error>(HasSubstr("no key 'bits'")));
  EXPECT_THAT([&] { spec.integer("bits"); }, ThrowsMessage<Error>(HasSubstr("no key 'bits'")));
}

}  // namespace
}  // namespace squish::quant
