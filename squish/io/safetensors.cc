#include "squish/io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "squish/base/error.h"
#include "squish/io/json.h"

namespace squish::io {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxHeader = 100'000'000;  // the reference reader's limit
constexpr std::size_t kMaxIndex = 100'000'000;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 56;  // times any element size fits

/// One entry of the header, checked on its own.
struct Entry {
  Tensor tensor;
  std::uint64_t begin = 0, end = 0;
};

/// {begin, end, ...} or a shape: an array of non-negative integers.
std::vector<std::uint64_t> unsigned_array(const json& entry, const char* key,
                                          const std::string& where) {
  const auto found = entry.find(key);
  if (found == entry.end() || !found->is_array()) fail("{}: expected an array '{}'", where, key);
  std::vector<std::uint64_t> values;
  for (const json& value : *found) {
    if (!value.is_number_unsigned()) {
      fail("{}: '{}' holds something other than a non-negative integer", where, key);
    }
    values.push_back(value.get<std::uint64_t>());
  }
  return values;
}

DType parse_type(const json& entry, const std::string& where, bool bytes_allowed) {
  const auto found = entry.find("dtype");
  const std::string name = found != entry.end() && found->is_string() ? *found : json("(missing)");
  if (name == "F32") return DType::F32;
  if (name == "F16") return DType::F16;
  if (name == "BF16") return DType::BF16;
  if (name == "U8" && bytes_allowed) return DType::U8;
  if (name == "F64" && bytes_allowed) return DType::F64;
  fail("{}: dtype {}, expected F32, F16 or BF16", where, name);
}

Entry parse_entry(const std::string& name, const json& value, const std::string& path,
                  bool bytes_allowed) {
  const std::string where = fmt::format("{}: tensor '{}'", path, name);
  if (!value.is_object()) fail("{}: expected an object in the header", where);
  Entry entry;
  entry.tensor.name = name;
  entry.tensor.type = parse_type(value, where, bytes_allowed);
  std::uint64_t elements = 1;
  for (const std::uint64_t size : unsigned_array(value, "shape", where)) {
    if (size > kMaxElements / std::max<std::uint64_t>(elements, 1)) {
      fail("{}: the shape overflows", where);
    }
    elements *= size;
    entry.tensor.shape.push_back(size);
  }
  const auto offsets = unsigned_array(value, "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    fail("{}: data_offsets must be a begin and an end", where);
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const std::uint64_t expected = elements * block_size(entry.tensor.type).bytes;
  if (entry.end - entry.begin != expected) {
    fail("{}: {} bytes of data, expected {} for its shape and dtype", where,
         entry.end - entry.begin, expected);
  }
  return entry;
}

using Metadata = std::map<std::string, std::string>;

Metadata parse_metadata(const json& metadata, const std::string& path) {
  const bool valid =
      metadata.is_object() && std::all_of(metadata.begin(), metadata.end(),
                                          [](const json& value) { return value.is_string(); });
  if (!valid) fail("{}: __metadata__ must map strings to strings", path);
  return metadata.get<Metadata>();
}

/// Adds the file's tensors and returns its metadata.
Metadata read_file(const std::filesystem::path& path, TensorTable& table, bool bytes_allowed) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  std::uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size) fail("{}: too short for safetensors", path.string());
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  const std::size_t rest = bytes.size() - sizeof header_size;
  if (header_size > kMaxHeader || header_size > rest) {
    fail("{}: a header of {} bytes; the file has {} and {} are allowed", path.string(), header_size,
         bytes.size(), kMaxHeader);
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + sizeof header_size);
  const json header = parse_json({text, header_size}, path);
  if (!header.is_object()) fail("{}: the header is not a JSON object", path.string());

  Metadata metadata;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      metadata = parse_metadata(value, path.string());
    } else {
      entries.push_back(parse_entry(name, value, path.string(), bytes_allowed));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const auto data = bytes.subspan(sizeof header_size + header_size);
  const auto owner = std::make_shared<const MappedFile>(file);
  std::uint64_t end = 0;
  for (Entry& entry : entries) {
    const std::string& name = entry.tensor.name;
    if (entry.begin != end) {
      fail(
          "{}: tensor '{}' begins at byte {} of the data, expected {} where the one before it ends",
          path.string(), name, entry.begin, end);
    }
    end = entry.end;
    if (end > data.size()) {
      fail(
          "{}: tensor '{}' ends at byte {} of the data, but there are only {}; the file is "
          "truncated",
          path.string(), name, end, data.size());
    }
    if (table.contains(name)) fail("{}: tensor '{}' is in two files", path.string(), name);
    entry.tensor.bytes = data.subspan(entry.begin, entry.end - entry.begin);
    entry.tensor.owner = owner;
    table.tensors.emplace(name, std::move(entry.tensor));
  }
  if (end != data.size()) {
    fail("{}: {} bytes of data, but the tensors end at {}", path.string(), data.size(), end);
  }
  table.files.push_back(file);
  return metadata;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void read_safetensors(const std::filesystem::path& path, TensorTable& table) {
  read_file(path, table, /*bytes_allowed=*/false);
}

std::string SafetensorsFile::text(const std::string& name) const {
  const auto found = metadata.find(name);
  return found == metadata.end() ? "" : found->second;
}

void SafetensorsFile::check_sum(const Tensor& tensor) const {
  const auto digest = metadata.find(tensor.name);
  io::check_sum(tensor.bytes, digest == metadata.end() ? "none" : digest->second,
                fmt::format("{}: {}", table.files.front().path().string(), tensor.name));
}

SafetensorsFile read_safetensors_file(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.metadata = read_file(path, file.table, /*bytes_allowed=*/true);
  return file;
}

void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const Metadata& metadata, Padding padding) {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  std::vector<std::string_view> pieces(1);  // the header's place
  json header = {{"__metadata__", metadata}};
  std::size_t end = 0, paddings = 0;
  const auto add = [&](const std::string& name, DType type, const std::vector<std::size_t>& shape,
                       std::span<const std::byte> bytes) {
    if (header.contains(name)) fail("{}: two tensors are called '{}'", path.string(), name);
    header[name] = {
        {"dtype", to_string(type)}, {"shape", shape}, {"data_offsets", {end, end + bytes.size()}}};
    pieces.push_back(as_text(bytes));
    end += bytes.size();
  };
  for (const StoredTensor& tensor : tensors) {
    if (const std::size_t gap = (kAlignment - end % kAlignment) % kAlignment;
        gap > 0 && padding == Padding::aligned) {
      add(fmt::format("{}{}", kPadding, paddings++), DType::U8, {gap},
          std::span(kZeros).first(gap));
    }
    add(tensor.name, tensor.type, tensor.shape, tensor.bytes);
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::type_error&) {
    fail("{}: cannot be written: the name of a tensor is not UTF-8", path.string());
  }
  std::uint64_t length = 0;
  text.resize(
      (text.size() + sizeof length + kAlignment - 1) / kAlignment * kAlignment - sizeof length,
      ' ');
  if (text.size() > kMaxHeader)
    fail("{}: a header of more than {} bytes", path.string(), kMaxHeader);
  length = text.size();
  text.insert(0, reinterpret_cast<const char*>(&length), sizeof length);
  pieces[0] = text;
  write_atomically(path, pieces);
}

void write_safetensors_index(const std::map<std::string, std::string>& files,
                             const std::filesystem::path& directory) {
  const json index = {{"metadata", json::object()}, {"weight_map", files}};
  write_atomically(directory / kIndexFile, index.dump(1) + "\n");
}

TensorTable read_safetensors_directory(const std::filesystem::path& directory) {
  TensorTable table;
  const auto index = directory / kIndexFile;
  std::error_code ignored;  // what cannot be seen counts as missing
  if (!std::filesystem::exists(index, ignored)) {
    const auto single = directory / "model.safetensors";
    if (!std::filesystem::exists(single, ignored)) {
      fail("{}: neither model.safetensors nor model.safetensors.index.json is there",
           directory.string());
    }
    read_safetensors(single, table);
    return table;
  }
  const json root = read_json(index, kMaxIndex);
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (map == root.end() || !map->is_object()) {
    fail("{}: expected an object 'weight_map'", index.string());
  }
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (file.empty() || file == "." || file == ".." || file.find('/') != file.npos ||
        file.find('\0') != file.npos) {
      fail("{}: tensor '{}' must be in a file of this directory", index.string(), name);
    }
    shards.insert(file);
  }
  for (const std::string& shard : shards) read_safetensors(directory / shard, table);
  for (const auto& [name, shard] : map->items()) {
    if (!table.contains(name)) {
      fail("{}: tensor '{}' is not in {}", index.string(), name, shard.get<std::string>());
    }
  }
  return table;
}

}  // namespace squish::io
