#include "squish/io/gguf.h"

#include <array>
#include <bit>
#include <concepts>
#include <cstring>
#include <utility>

#include "squish/base/error.h"

namespace squish::io {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kMaxDimensions = 4;  // GGML_MAX_DIMS

enum class Kind : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  flag,
  text,
  array,
  u64,
  i64,
  f64
};

/// Reads fields one after the other and never beyond the end of the file.
class Reader {
 public:
  explicit Reader(const MappedFile& file) : file_(file), rest_(file.bytes()) {}

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string text() {
    const auto bytes = take(number<std::uint64_t>());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::span<const std::byte> take(std::uint64_t size) {
    if (size > rest_.size()) {
      fail("{}: the file ends at byte {} within its header; it is truncated or malformed",
           file_.path().string(), file_.bytes().size());
    }
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }

  std::size_t position() const { return file_.bytes().size() - rest_.size(); }
  std::size_t remaining() const { return rest_.size(); }
  std::string path() const { return file_.path().string(); }

 private:
  const MappedFile& file_;
  std::span<const std::byte> rest_;
};

template <class Element, class Read>
std::vector<Element> read_array(Reader& in, std::uint64_t count, std::size_t element_bytes,
                                Read read) {
  // Every element takes at least element_bytes, which bounds what is allocated by the file's size.
  if (count > in.remaining() / element_bytes) {
    fail("{}: an array of {} elements does not fit the file; it is truncated or malformed",
         in.path(), count);
  }
  std::vector<Element> values;
  values.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) values.push_back(read());
  return values;
}

template <std::integral T>
std::vector<std::int64_t> read_integers(Reader& in, std::uint64_t count, std::string_view key) {
  return read_array<std::int64_t>(in, count, sizeof(T), [&] {
    const T value = in.number<T>();
    if (!std::in_range<std::int64_t>(value)) {
      fail("{}: an element of '{}' is beyond 63 bits", in.path(), key);
    }
    return static_cast<std::int64_t>(value);
  });
}

GgufValue read_array_value(Reader& in, std::string_view key) {
  const auto kind = in.number<Kind>();
  const auto count = in.number<std::uint64_t>();
  switch (kind) {
    case Kind::u8:
      return read_integers<std::uint8_t>(in, count, key);
    case Kind::i8:
      return read_integers<std::int8_t>(in, count, key);
    case Kind::u16:
      return read_integers<std::uint16_t>(in, count, key);
    case Kind::i16:
      return read_integers<std::int16_t>(in, count, key);
    case Kind::u32:
      return read_integers<std::uint32_t>(in, count, key);
    case Kind::i32:
      return read_integers<std::int32_t>(in, count, key);
    case Kind::u64:
      return read_integers<std::uint64_t>(in, count, key);
    case Kind::i64:
      return read_integers<std::int64_t>(in, count, key);
    case Kind::f32:
      return read_array<double>(in, count, 4, [&] { return double{in.number<float>()}; });
    case Kind::f64:
      return read_array<double>(in, count, 8, [&] { return in.number<double>(); });
    case Kind::flag:
      return read_array<bool>(in, count, 1, [&] { return in.number<std::uint8_t>() != 0; });
    case Kind::text:
      return read_array<std::string>(in, count, 8, [&] { return in.text(); });
    case Kind::array:
      fail("{}: '{}' is an array of arrays, which is not supported", in.path(), key);
  }
  fail("{}: '{}' has elements of the unknown type {}", in.path(), key,
       static_cast<std::uint32_t>(kind));
}

GgufValue read_value(Reader& in, std::string_view key) {
  const auto kind = in.number<Kind>();
  switch (kind) {
    case Kind::u8:
      return std::uint64_t{in.number<std::uint8_t>()};
    case Kind::i8:
      return std::int64_t{in.number<std::int8_t>()};
    case Kind::u16:
      return std::uint64_t{in.number<std::uint16_t>()};
    case Kind::i16:
      return std::int64_t{in.number<std::int16_t>()};
    case Kind::u32:
      return std::uint64_t{in.number<std::uint32_t>()};
    case Kind::i32:
      return std::int64_t{in.number<std::int32_t>()};
    case Kind::u64:
      return in.number<std::uint64_t>();
    case Kind::i64:
      return in.number<std::int64_t>();
    case Kind::f32:
      return double{in.number<float>()};
    case Kind::f64:
      return in.number<double>();
    case Kind::flag:
      return in.number<std::uint8_t>() != 0;
    case Kind::text:
      return in.text();
    case Kind::array:
      return read_array_value(in, key);
  }
  fail("{}: '{}' is of the unknown type {}", in.path(), key, static_cast<std::uint32_t>(kind));
}

DType read_type(Reader& in, std::string_view name) {
  switch (const auto type = in.number<std::uint32_t>()) {
    case 0:
      return DType::F32;
    case 1:
      return DType::F16;
    case 2:
      return DType::Q4_0;
    case 3:
      return DType::Q4_1;
    case 6:
      return DType::Q5_0;
    case 7:
      return DType::Q5_1;
    case 8:
      return DType::Q8_0;
    case 12:
      return DType::Q4_K;
    case 13:
      return DType::Q5_K;
    case 14:
      return DType::Q6_K;
    case 30:
      return DType::BF16;
    default:
      fail(
          "{}: tensor '{}' is of GGML type {}; expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, "
          "Q8_0, Q4_K, Q5_K or Q6_K",
          in.path(), name, type);
  }
}

struct Placed {
  Tensor tensor;
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
};

Placed read_tensor_info(Reader& in) {
  Placed placed;
  Tensor& tensor = placed.tensor;
  tensor.name = in.text();
  const auto dimensions = in.number<std::uint32_t>();
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    fail("{}: tensor '{}' has {} dimensions, expected 1 to {}", in.path(), tensor.name, dimensions,
         kMaxDimensions);
  }
  // 2^56 elements keep every later product of sizes within 64 bits.
  constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 56;
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.number<std::uint64_t>();
    if (size == 0 || size > kMaxElements / elements) {
      fail("{}: tensor '{}' has an impossible shape", in.path(), tensor.name);
    }
    elements *= size;
    tensor.shape.insert(tensor.shape.begin(), size);
  }
  tensor.type = read_type(in, tensor.name);
  const BlockSize block = block_size(tensor.type);
  if (tensor.cols() % block.elements != 0) {
    fail("{}: tensor '{}' has rows of {} elements, expected a multiple of {} for {}", in.path(),
         tensor.name, tensor.cols(), block.elements, to_string(tensor.type));
  }
  placed.bytes = elements / block.elements * block.bytes;
  placed.offset = in.number<std::uint64_t>();
  return placed;
}

void read_header(Reader& in) {
  if (in.remaining() < 4 || std::memcmp(in.take(4).data(), "GGUF", 4) != 0) {
    fail("{}: not a GGUF file", in.path());
  }
  const auto version = in.number<std::uint32_t>();
  if (version != 2 && version != 3) {
    fail("{}: GGUF version {}, expected 2 or 3 in little-endian order", in.path(), version);
  }
}

std::string_view type_name(const GgufValue& value) {
  static constexpr std::array<std::string_view, 9> kNames = {"an integer",
                                                             "an unsigned integer",
                                                             "a real number",
                                                             "a flag",
                                                             "a string",
                                                             "an array of integers",
                                                             "an array of real numbers",
                                                             "an array of flags",
                                                             "an array of strings"};
  return kNames[value.index()];
}

template <class T>
const T* find(const GgufFile& file, std::string_view key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) return nullptr;
  if (const T* value = std::get_if<T>(&found->second)) return value;
  fail("{}: '{}' is {}, expected {}", file.path.string(), key, type_name(found->second),
       type_name(GgufValue(T{})));
}

template <class T>
const T& get(const GgufFile& file, std::string_view key) {
  const T* value = find<T>(file, key);
  if (value == nullptr) fail("{}: the metadata lack '{}'", file.path.string(), key);
  return *value;
}

template <class T>
T get_or(const GgufFile& file, std::string_view key, T fallback) {
  const T* value = find<T>(file, key);
  return value != nullptr ? *value : std::move(fallback);
}

}  // namespace

GgufFile read_gguf(const std::filesystem::path& path) {
  GgufFile result;
  result.path = path;
  const MappedFile& file = result.table.files.emplace_back(path);
  Reader in(file);
  read_header(in);
  const auto tensors = in.number<std::uint64_t>();
  const auto pairs = in.number<std::uint64_t>();

  for (std::uint64_t i = 0; i < pairs; ++i) {
    std::string key = in.text();
    GgufValue value = read_value(in, key);
    if (result.metadata.contains(key)) fail("{}: '{}' occurs twice", path.string(), key);
    result.metadata.emplace(std::move(key), std::move(value));
  }
  const std::uint64_t alignment = result.unsigned_or("general.alignment", 32);
  if (!std::has_single_bit(alignment) || alignment > (1u << 30)) {
    fail("{}: general.alignment is {}, expected a power of two", path.string(), alignment);
  }
  const auto aligned = [alignment](std::uint64_t n) {
    return (n + alignment - 1) / alignment * alignment;
  };

  const auto owner = std::make_shared<const MappedFile>(file);
  std::vector<Placed> placed;
  for (std::uint64_t i = 0; i < tensors; ++i) placed.push_back(read_tensor_info(in));

  const std::uint64_t data = aligned(in.position());
  std::uint64_t expected = 0;
  for (Placed& p : placed) {
    const std::string& name = p.tensor.name;
    if (p.offset != expected) {
      fail("{}: tensor '{}' lies at offset {}, expected {} right after the one before it",
           path.string(), name, p.offset, expected);
    }
    const std::size_t size = file.bytes().size();
    if (data > size || expected > size - data || p.bytes > size - data - expected) {
      fail("{}: the file ends at byte {} within tensor '{}'; it is truncated", path.string(), size,
           name);
    }
    p.tensor.bytes = file.bytes().subspan(data + expected, p.bytes);
    p.tensor.owner = owner;
    expected = aligned(expected + p.bytes);
    if (result.table.contains(name)) fail("{}: tensor '{}' occurs twice", path.string(), name);
    result.table.tensors.emplace(name, std::move(p.tensor));
  }
  return result;
}

std::uint64_t GgufFile::unsigned_at(std::string_view key) const {
  return get<std::uint64_t>(*this, key);
}

std::uint64_t GgufFile::unsigned_or(std::string_view key, std::uint64_t fallback) const {
  return get_or(*this, key, fallback);
}

double GgufFile::real_or(std::string_view key, double fallback) const {
  return get_or(*this, key, fallback);
}

bool GgufFile::flag_or(std::string_view key, bool fallback) const {
  return get_or(*this, key, fallback);
}

const std::string& GgufFile::text_at(std::string_view key) const {
  return get<std::string>(*this, key);
}

std::string GgufFile::text_or(std::string_view key, std::string fallback) const {
  return get_or(*this, key, std::move(fallback));
}

const std::vector<std::string>* GgufFile::texts(std::string_view key) const {
  return find<std::vector<std::string>>(*this, key);
}

const std::vector<std::int64_t>* GgufFile::integers(std::string_view key) const {
  return find<std::vector<std::int64_t>>(*this, key);
}

const std::vector<double>* GgufFile::reals(std::string_view key) const {
  return find<std::vector<double>>(*this, key);
}

}  // namespace squish::io
