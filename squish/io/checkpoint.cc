#include "squish/io/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "squish/base/error.h"
#include "squish/io/architecture.h"
#include "squish/io/json.h"
#include "squish/io/safetensors.h"
#include "squish/io/seal.h"
#include "squish/io/tokenizer_files.h"

namespace squish::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using quant::Part;

constexpr const char* kShared = "shared";  // the type of an entry that is no tensor
constexpr std::array<std::string_view, 4> kParts = {"indices", "scales", "codebooks", "other"};
// Fewer stored bits per weight than this are no method's: against sizes that only memory would
// stop.
constexpr double kFewestBits = 1.0 / 64;

bool is_native(DType type) {
  return type == DType::F32 || type == DType::F16 || type == DType::BF16;
}

json section_entry(const std::string& name, Part part, std::span<const std::byte> bytes) {
  return {{"name", name},
          {"part", kParts[static_cast<std::size_t>(part)]},
          {"bytes", bytes.size()},
          {"sha256", sha256(bytes)}};
}

/// The file's entry of a tensor, as docs/format.md has it.
json entry_of(const Tensor& tensor) {
  json entry = {{"type", to_string(tensor.type)}, {"shape", tensor.shape}};
  if (tensor.packed == nullptr) {
    entry["sha256"] = sha256(tensor.bytes);
    return entry;
  }
  entry["spec"] = tensor.packed->spec;
  if (tensor.packed->shared != nullptr) entry["shared"] = tensor.packed->shared_name;
  entry["sections"] = json::array();
  for (const StoredSection& section : tensor.packed->sections) {
    entry["sections"].push_back(section_entry(section.name, section.part, section.bytes));
  }
  return entry;
}

/// The bytes of a tensor with its rows in Hugging Face's order.
std::vector<std::byte> reordered(const Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes.size());
  const std::size_t rows = tensor.shape.size() <= 1 ? tensor.elements() : tensor.rows();
  const std::size_t row_bytes = bytes.size() / std::max<std::size_t>(1, rows);
  for (std::size_t row = 0; row < rows; ++row) {
    std::memcpy(bytes.data() + row * row_bytes,
                tensor.bytes.data() + stored_row(tensor, row) * row_bytes, row_bytes);
  }
  return bytes;
}

Part parse_part(const Fields& section) {
  const std::string name = section.text("part");
  const auto* const found = std::find(kParts.begin(), kParts.end(), name);
  if (found == kParts.end()) fail("{}: the part '{}' is unknown", section.where(), name);
  return static_cast<Part>(found - kParts.begin());
}

DType parse_type(const Fields& entry) {
  const std::string name = entry.text("type");
  for (int i = 0; i <= static_cast<int>(DType::squish); ++i) {
    const auto type = static_cast<DType>(i);
    if (type != DType::U8 && to_string(type) == name) return type;
  }
  fail("{}: the type '{}' is unknown", entry.where(), name);
}

std::string parse_sum(const Fields& fields) {
  std::string sum = fields.text("sha256");
  const bool hexadecimal = sum.find_first_not_of("0123456789abcdef") == sum.npos;
  if (sum.size() != 64 || !hexadecimal) fail("{}: 'sha256' is malformed", fields.where());
  return sum;
}

std::vector<std::size_t> parse_shape(const Fields& entry) {
  const json* shape = entry.find("shape");
  if (shape == nullptr || !shape->is_array()) fail("{}: expected an array 'shape'", entry.where());
  std::vector<std::size_t> sizes;
  for (const json& size : *shape) {
    if (!size.is_number_unsigned() || size < 1 || size > 0x7fffffff) {
      fail("{}: 'shape' must hold positive integers below 2^31", entry.where());
    }
    sizes.push_back(size.get<std::size_t>());
  }
  // Tensors that stay as they are may have any (convolutions, stacked experts, single numbers).
  constexpr std::size_t kMaxElements = std::size_t{1} << 56;
  std::size_t elements = 1;
  for (const std::size_t size : sizes) {
    if (size > kMaxElements / elements) fail("{}: the shape overflows", entry.where());
    elements *= size;
  }
  return sizes;
}

/// Takes the stored tensors of one file one by one, so that what is left over shows.
class StoredTensors {
 public:
  StoredTensors(const fs::path& path, SafetensorsFile file)
      : path_(path),
        table_(std::move(file.table)),
        owner_(std::make_shared<const MappedFile>(table_.files.front())) {}

  const TensorTable& table() const { return table_; }
  /// Keeps all bytes alive.
  const std::shared_ptr<const void>& owner() const { return owner_; }

  std::span<const std::byte> take(const std::string& name, DType type) {
    const auto found = table_.tensors.find(name);
    if (found == table_.tensors.end()) {
      fail("{}: the stored tensor '{}' is missing", path_.string(), name);
    }
    const Tensor stored = found->second;
    table_.tensors.erase(found);
    if (stored.type != type) {
      fail("{}: the stored tensor '{}' is of type {}, expected {}", path_.string(), name,
           to_string(stored.type), to_string(type));
    }
    if (reinterpret_cast<std::uintptr_t>(stored.bytes.data()) % kAlignment != 0) {
      fail("{}: the stored tensor '{}' does not begin on a multiple of {} bytes", path_.string(),
           name, kAlignment);
    }
    return stored.bytes;
  }

  void check_rest() const {
    for (const auto& [name, tensor] : table_.tensors) {
      const bool zero = std::all_of(tensor.bytes.begin(), tensor.bytes.end(),
                                    [](std::byte b) { return b == std::byte{0}; });
      if (!name.starts_with(kPadding) || tensor.bytes.size() >= kAlignment || !zero) {
        fail("{}: the stored tensor '{}' belongs to no tensor of the model", path_.string(), name);
      }
    }
  }

 private:
  const fs::path& path_;
  TensorTable table_;
  std::shared_ptr<const void> owner_;
};

/// The sections of an entry, whose bytes are stored under the name of the tensor and theirs.
/// `names`: of sections that it has besides.
std::vector<StoredSection> parse_sections(const std::string& tensor, const Fields& entry,
                                          std::set<std::string> names, StoredTensors& stored) {
  const json* sections = entry.find("sections");
  if (sections == nullptr || !sections->is_array()) {
    fail("{}: expected an array 'sections'", entry.where());
  }
  std::vector<StoredSection> found;
  for (const json& item : *sections) {
    const Fields fields(item, entry.where() + ": sections");
    StoredSection section{fields.text("name"), parse_part(fields), {}, parse_sum(fields)};
    if (!names.insert(section.name).second) {
      fail("{}: the section '{}' is there twice", entry.where(), section.name);
    }
    section.bytes = stored.take(tensor + "." + section.name, DType::U8);
    const json* bytes = fields.find("bytes");
    if (bytes == nullptr || *bytes != section.bytes.size()) {
      fail("{}: the section '{}' has {} bytes, expected {}", entry.where(), section.name,
           section.bytes.size(), bytes == nullptr ? "a number of them" : bytes->dump());
    }
    found.push_back(std::move(section));
  }
  return found;
}

/// Reads it, and checks its sum: it is small, and belongs to many tensors.
std::shared_ptr<const quant::Section> read_shared(const std::string& name, const Fields& entry,
                                                  StoredTensors& stored) {
  const std::vector<StoredSection> sections = parse_sections(name, entry, {}, stored);
  if (sections.size() != 1) fail("{}: expected one section", entry.where());
  const StoredSection& one = sections.front();
  if (sha256(one.bytes) != one.sha256) {
    fail("{}: the checksum does not match, so its bytes are not those that were written",
         entry.where());
  }
  return std::make_shared<const quant::Section>(
      quant::Section{one.name, one.part, Bytes(one.bytes.begin(), one.bytes.end())});
}

std::shared_ptr<const StoredPacked> parse_packed(const Tensor& tensor, const Fields& entry,
                                                 const SharedSections& shared,
                                                 StoredTensors& stored) {
  auto packed = std::make_shared<StoredPacked>();
  packed->spec = entry.text("spec");
  std::set<std::string> names;
  if (entry.find("shared") != nullptr) {
    packed->shared_name = entry.text("shared");
    const auto found = shared.find(packed->shared_name);
    if (found == shared.end()) {
      fail("{}: '{}', which it shares, is not in the first model file", entry.where(),
           packed->shared_name);
    }
    packed->shared = found->second;
    names.insert(found->second->name);
  }
  packed->sections = parse_sections(tensor.name, entry, std::move(names), stored);
  packed->owner = stored.owner();
  std::size_t total = 0;
  for (const StoredSection& section : packed->sections) total += section.bytes.size();
  if (8.0 * static_cast<double>(total) <
      kFewestBits * static_cast<double>(tensor.rows()) * static_cast<double>(tensor.cols())) {
    fail("{}: {} bytes are too few for a matrix of {} x {}", entry.where(), total, tensor.rows(),
         tensor.cols());
  }
  return packed;
}

/// The bytes of a tensor that is stored as it is.
std::span<const std::byte> take_plain(const Tensor& tensor, const Fields& entry,
                                      StoredTensors& stored) {
  const BlockSize block = block_size(tensor.type);
  const auto bytes = stored.take(tensor.name, is_native(tensor.type) ? tensor.type : DType::U8);
  const std::size_t expected = tensor.elements() / block.elements * block.bytes;
  if (tensor.cols() % block.elements != 0 || bytes.size() != expected) {
    fail("{}: {} bytes of data, expected {}", entry.where(), bytes.size(), expected);
  }
  return bytes;
}

/// The entries in the metadata of one model file.
json file_entries(const SafetensorsFile& file, const fs::path& path) {
  if (file.text("format") != "squish" || !file.metadata.contains("tensors")) {
    fail("{}: not a file of a squish checkpoint", path.string());
  }
  json parsed = parse_json(file.text("tensors"), path);
  if (!parsed.is_object()) fail("{}: the metadata 'tensors' are not an object", path.string());
  return parsed;
}

/// Adds the tensors of one file to `table` and returns their entries.
json read_with_entries(const fs::path& path, TensorTable& table) {
  SafetensorsFile file = read_safetensors_file(path);
  json entries = file_entries(file, path);
  StoredTensors stored(path, std::move(file));
  const auto fields_of = [&](const std::string& name, const json& value) {
    return Fields(value, fmt::format("{}: tensor '{}'", path.string(), name));
  };
  for (const auto& [name, value] : entries.items()) {
    const Fields entry = fields_of(name, value);
    if (entry.text("type") != kShared) continue;
    if (!table.shared.emplace(name, read_shared(name, entry, stored)).second) {
      fail("{}: '{}' is in two files", path.string(), name);
    }
  }
  for (const auto& [name, value] : entries.items()) {
    const Fields entry = fields_of(name, value);
    if (entry.text("type") == kShared) continue;
    Tensor tensor;
    tensor.name = name;
    tensor.type = parse_type(entry);
    tensor.shape = parse_shape(entry);
    if (tensor.type == DType::squish) {
      if (tensor.shape.size() != 2) fail("{}: expected a matrix", entry.where());
      tensor.packed = parse_packed(tensor, entry, table.shared, stored);
    } else {
      tensor.bytes = take_plain(tensor, entry, stored);
      tensor.owner = stored.owner();
      tensor.sha256 = parse_sum(entry);
    }
    if (!table.tensors.emplace(name, std::move(tensor)).second) {
      fail("{}: tensor '{}' is in two files", path.string(), name);
    }
  }
  stored.check_rest();
  table.files.push_back(stored.table().files.front());
  return entries;
}

json job_json(const CheckpointJob& job) {
  json result = {{"version", job.version},
                 {"commit", job.commit},
                 {"isa", job.isa},
                 {"blas", job.blas},
                 {"seed", job.seed},
                 {"spec", job.spec},
                 {"tensors", job.tensors},
                 {"model_sha256", job.model_sha256},
                 {"calibration_sha256", job.calibration_sha256}};
  if (!job.target.empty()) {
    result["target"] = job.target;
    result["held_out_sha256"] = job.held_out_sha256;
  }
  if (!job.sequential_sha256.empty()) result["sequential_sha256"] = job.sequential_sha256;
  return result;
}

CheckpointJob parse_job(const json& root, const fs::path& path) {
  const Fields fields(root, path.string());
  const json* version = fields.find("format_version");
  if (fields.text_or("format", "") != "squish" || version == nullptr) {
    fail("{}: not a squish checkpoint", path.string());
  }
  if (*version != kCheckpointVersion) {
    fail("{}: a checkpoint of format version {}, expected {}", path.string(), version->dump(),
         kCheckpointVersion);
  }
  static const json kNone;
  const json* object = fields.find("job");
  const Fields job(object != nullptr ? *object : kNone, path.string() + ": job");
  CheckpointJob result{.version = job.text("version"),
                       .commit = job.text("commit"),
                       .isa = job.text("isa"),
                       .blas = job.text("blas"),
                       .spec = job.text("spec"),
                       .tensors = {},
                       .model_sha256 = job.text("model_sha256"),
                       .calibration_sha256 = job.text_or("calibration_sha256", ""),
                       .sequential_sha256 = job.text_or("sequential_sha256", ""),
                       .target = job.text_or("target", ""),
                       .held_out_sha256 = job.text_or("held_out_sha256", "")};
  const json *seed = job.find("seed"), *tensors = job.find("tensors");
  if (seed == nullptr || !seed->is_number_unsigned()) fail("{}: no 'seed'", job.where());
  result.seed = seed->get<std::uint64_t>();
  if (tensors == nullptr || !tensors->is_array()) fail("{}: no array 'tensors'", job.where());
  for (const json& pair : *tensors) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      fail("{}: 'tensors' must hold pairs of a name and a spec", job.where());
    }
    result.tensors.emplace_back(pair[0], pair[1]);
  }
  return result;
}

/// Stored bits per weight of `files` as the manifest states them.
json bits_json(const TensorTable& table, const CheckpointJob& job) {
  double all_bits = 0, all_weights = 0, bits = 0, weights = 0;
  for (const auto& [name, tensor] : table.tensors) {
    all_bits += 8 * static_cast<double>(tensor.stored_bytes());
    all_weights += static_cast<double>(tensor.elements());
  }
  for (const auto& [name, spec] : job.tensors) {
    bits += 8 * static_cast<double>(table.at(name).stored_bytes());
    weights += static_cast<double>(table.at(name).elements());
  }
  bits += 8 * static_cast<double>(table.shared_bytes());
  all_bits += 8 * static_cast<double>(table.shared_bytes());
  return {{"quantised", weights > 0 ? bits / weights : 0}, {"model", all_bits / all_weights}};
}

/// Exactly the tensors that the job names are quantised, each by its spec.
void check_job_tensors(const CheckpointJob& job, const TensorTable& table, const fs::path& path) {
  std::map<std::string, std::string> specs;
  for (const auto& [name, tensor] : table.tensors) {
    if (tensor.packed != nullptr) specs[name] = tensor.packed->spec;
  }
  for (const auto& [name, spec] : job.tensors) {
    const auto found = specs.find(name);
    if (found == specs.end() || found->second != spec) {
      fail("{}: tensor '{}' is not quantised once by {}", path.string(), name, spec);
    }
    specs.erase(found);
  }
  if (!specs.empty()) {
    fail("{}: tensor '{}' is quantised, which the job does not say", path.string(),
         specs.begin()->first);
  }
}

}  // namespace

std::string job_digest(const CheckpointJob& job) { return sha256(job_json(job).dump()); }

std::string difference(const CheckpointJob& before, const CheckpointJob& now) {
  const auto fields = [](CheckpointJob job, const CheckpointJob& other) {
    // What either has not decided yet is no difference.
    const std::size_t count = std::min(job.tensors.size(), other.tensors.size());
    for (std::size_t i = 0; i < count; ++i) {
      if (other.tensors[i].second.empty()) job.tensors[i].second.clear();
    }
    json result = job_json(job);
    result["target"] = job.target;
    result["held_out_sha256"] = job.held_out_sha256;
    result["sequential_sha256"] = job.sequential_sha256;
    return result;
  };
  json a = fields(before, now), b = fields(now, before);
  for (const char* key :
       {"model_sha256", "target", "spec", "tensors", "seed", "held_out_sha256",
        "calibration_sha256", "sequential_sha256", "version", "commit", "isa", "blas"}) {
    if (a[key] == b[key]) continue;
    if (a[key].is_array()) return "the specs of single tensors have changed";
    return fmt::format("{} was {} and is {}", key, a[key].dump(), b[key].dump());
  }
  return "";
}

void write_job(const CheckpointJob& job, const fs::path& directory) {
  const fs::path path = directory / kJobFile;
  write_atomically(path, to_text({{"format", "squish"},
                                  {"format_version", kCheckpointVersion},
                                  {"job", job_json(job)}},
                                 path));
}

CheckpointJob read_job(const fs::path& file) {
  return parse_job(read_json(file, kMaxManifest), file);
}

std::string shared_section_name(std::size_t index) {
  return fmt::format("squish.shared.{}", index);
}

Tensor packed_tensor(std::string name, const quant::Packed& packed, std::string shared_name) {
  auto stored = std::make_shared<StoredPacked>();
  stored->spec = packed.spec.full();
  for (const quant::Section& section : packed.sections) {
    stored->sections.push_back({section.name, section.part, section.bytes, ""});
  }
  stored->shared = packed.shared;
  stored->shared_name = std::move(shared_name);
  Tensor tensor;
  tensor.name = std::move(name);
  tensor.type = DType::squish;
  tensor.shape = {packed.rows, packed.cols};
  tensor.packed = std::move(stored);
  return tensor;
}

std::string checkpoint_file_name(std::size_t index, std::size_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_checkpoint_file(const fs::path& path, std::span<const Tensor> tensors,
                           const SharedSections& shared) {
  std::vector<std::vector<std::byte>> in_order;  // owns what had to be put in order
  std::vector<StoredTensor> stored;
  json entries = json::object();
  for (const auto& [name, section] : shared) {
    entries[name] = {
        {"type", kShared},
        {"sections", json::array({section_entry(section->name, section->part, section->bytes)})}};
    stored.push_back(
        {name + "." + section->name, DType::U8, {section->bytes.size()}, section->bytes});
  }
  for (const Tensor& given : tensors) {
    Tensor tensor = given;
    if (tensor.interleaved_head_rows > 0) {
      tensor.bytes = in_order.emplace_back(reordered(tensor));
    }
    entries[tensor.name] = entry_of(tensor);
    if (tensor.packed != nullptr) {
      for (const StoredSection& section : tensor.packed->sections) {
        stored.push_back(
            {tensor.name + "." + section.name, DType::U8, {section.bytes.size()}, section.bytes});
      }
    } else if (is_native(tensor.type)) {
      stored.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
    } else {
      stored.push_back({tensor.name, DType::U8, {tensor.bytes.size()}, tensor.bytes});
    }
  }
  write_safetensors(path, stored, {{"format", "squish"}, {"tensors", to_text(entries, path)}},
                    Padding::aligned);
}

void read_checkpoint_file(const fs::path& path, TensorTable& table) {
  read_with_entries(path, table);
}

void check_sums(const Tensor& tensor) {
  check_sum(tensor.bytes, tensor.sha256, tensor.name);
  if (tensor.packed == nullptr) return;
  for (const StoredSection& section : tensor.packed->sections) {
    check_sum(section.bytes, section.sha256, tensor.name + "." + section.name);
  }
}

void write_manifest(const CheckpointJob& job, std::size_t count, const fs::path& directory) {
  json files = json::object();
  std::map<std::string, std::string> file_of;
  TensorTable table;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = checkpoint_file_name(i, count);
    files[name] = read_with_entries(directory / name, table);
    for (const auto& [stored, tensor] : read_safetensors_file(directory / name).table.tensors) {
      if (!stored.starts_with(kPadding)) file_of[stored] = name;
    }
  }
  write_safetensors_index(file_of, directory);
  const fs::path manifest = directory / kManifestFile;
  write_atomically(manifest, sealed({{"format", "squish"},
                                     {"format_version", kCheckpointVersion},
                                     {"job", job_json(job)},
                                     {"bits", bits_json(table, job)},
                                     {"files", files}},
                                    directory));
}

ModelFiles open_checkpoint_tensors(const fs::path& directory) {
  const fs::path manifest = directory / kManifestFile;
  const json root = read_json(manifest, kMaxManifest);
  const CheckpointJob job = parse_job(root, manifest);
  const auto files = root.find("files");
  if (files == root.end() || !files->is_object()) {
    fail("{}: expected an object 'files'", manifest.string());
  }
  ModelFiles model;
  model.container = "squish";
  model.spec = job.spec;
  model.sequential = !job.sequential_sha256.empty();
  model.calibrated = model.sequential || !job.calibration_sha256.empty();
  model.source_quantized = true;
  std::size_t index = 0;
  for (const auto& [name, entries] : files->items()) {
    if (name != checkpoint_file_name(index++, files->size())) {
      fail("{}: the model files are not numbered as expected, found '{}'", manifest.string(), name);
    }
    if (read_with_entries(directory / name, model.table) != entries) {
      fail("{}: {} does not list the same tensors as the file", manifest.string(), name);
    }
  }
  check_job_tensors(job, model.table, manifest);
  return model;
}

ModelFiles open_checkpoint(const fs::path& directory) {
  ModelFiles model = open_checkpoint_tensors(directory);
  const Architecture architecture = read_hf_config(directory / "config.json");
  model.config = architecture.config;
  check_architecture(architecture, model.table, directory);
  model.tokenizer = read_tokenizer(directory);
  // Rules for single tensors: what all were compressed by, as a job with a target has it.
  std::vector<std::string> specs = {model.spec};
  for (const std::string& name : linear_names(model.config)) {
    const auto& packed = model.table.at(name).packed;
    if (packed != nullptr && model.spec.find(';') == model.spec.npos &&
        std::ranges::find(specs, packed->spec) == specs.end()) {
      specs.push_back(packed->spec);
    }
  }
  model.spec = fmt::format("{}", fmt::join(specs, ";"));
  return model;
}

}  // namespace squish::io
