#pragma once
#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

namespace squish {

template <class Signature>
class FunctionRef;

/// A callable that somebody else keeps, for as long as the call that is given it takes: what
/// std::function_ref will be in C++26. Unlike std::function it allocates nothing.
template <class Result, class... Arguments>
class FunctionRef<Result(Arguments...)> {
 public:
  template <class Callable>
  requires(!std::same_as<std::remove_cvref_t<Callable>, FunctionRef> &&
           std::is_invocable_r_v<Result, Callable&, Arguments...>)
      FunctionRef(Callable&& callable)  // NOLINT: implicit by design
      : callable_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Arguments... arguments) -> Result {
          auto& own = *static_cast<std::remove_reference_t<Callable>*>(object);
          return static_cast<Result>(own(std::forward<Arguments>(arguments)...));
        }) {}

  Result operator()(Arguments... arguments) const {
    return call_(callable_, std::forward<Arguments>(arguments)...);
  }

 private:
  void* callable_;
  Result (*call_)(void*, Arguments...);
};

}  // namespace squish
