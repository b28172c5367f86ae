#include "squish/io/seal.h"

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/io/checkpoint.h"
#include "squish/io/json.h"
#include "squish/io/safetensors.h"

namespace squish::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char *kSums = "sums", *kOwnSum = "sha256";

/// All but what tells of the job (manifest, log, plan) and what is not squish's.
std::vector<std::string> sealed_names(const json& manifest, const fs::path& directory) {
  std::vector<std::string> names = checkpoint_config_names();
  names.push_back(kIndexFile);
  std::erase_if(names, [&](const std::string& name) { return !fs::exists(directory / name); });
  for (const auto& [name, entries] : manifest.at("files").items()) names.push_back(name);
  return names;
}

/// Of the manifest without this sum.
std::string own_sum(json manifest, const fs::path& path) {
  manifest.erase(kOwnSum);
  return sha256(to_text(manifest, path));
}

}  // namespace

std::string sealed(json manifest, const fs::path& directory) {
  const fs::path path = directory / kManifestFile;
  json& sums = manifest[kSums] = json::object();
  for (const std::string& name : sealed_names(manifest, directory)) {
    sums[name] = sha256(MappedFile(directory / name).bytes());
  }
  manifest[kOwnSum] = own_sum(manifest, path);
  return to_text(manifest, path);
}

bool check_seal(const fs::path& directory) {
  const fs::path path = directory / kManifestFile;
  const std::string text = read_text(path, kMaxManifest);
  const json manifest = parse_json(text, path);
  const json &sums = member(manifest, kSums), &own = member(manifest, kOwnSum);
  if (sums.is_null() && own.is_null()) return false;
  if (!sums.is_object() || own != own_sum(manifest, path) || text != to_text(manifest, path)) {
    fail("{}: its checksum does not match, so it is not what was written", path.string());
  }
  for (const auto& [name, sum] : sums.items()) {
    const fs::path file = directory / fs::path(name).filename();
    if (sum != sha256(MappedFile(file).bytes())) {
      fail("{}: its checksum does not match, so it is not what was written", file.string());
    }
  }
  return true;
}

}  // namespace squish::io
