// A safetensors file; what is read is written again and read back.
#include "squish/io/safetensors.h"

#include "tests/fuzz/fuzz.h"

namespace squish {
namespace {

bool same(const io::SafetensorsFile& a, const io::SafetensorsFile& b) {
  return a.metadata == b.metadata &&
         std::equal(a.table.tensors.begin(), a.table.tensors.end(), b.table.tensors.begin(),
                    b.table.tensors.end(), [](const auto& left, const auto& right) {
                      const io::Tensor &x = left.second, &y = right.second;
                      return left.first == right.first && x.type == y.type && x.shape == y.shape &&
                             std::ranges::equal(x.bytes, y.bytes);
                    });
}

}  // namespace
}  // namespace squish

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  const auto path = fuzz::put("model.safetensors", fuzz::text_of(data, size));
  io::SafetensorsFile file;
  fuzz::accepts([&] {
    io::TensorTable table;
    io::read_safetensors(path, table);
  });
  if (!fuzz::accepts([&] { file = io::read_safetensors_file(path); })) return 0;
  std::vector<io::StoredTensor> tensors;
  for (const auto& [name, tensor] : file.table.tensors) {
    tensors.push_back({name, tensor.type, tensor.shape, tensor.bytes});
  }
  for (const auto padding : {io::Padding::none, io::Padding::aligned}) {
    const auto again = fuzz::folder() / "again.safetensors";
    io::write_safetensors(again, tensors, file.metadata, padding);
    io::SafetensorsFile back = io::read_safetensors_file(again);
    std::erase_if(back.table.tensors, [&](const auto& entry) {
      return entry.first.starts_with(io::kPadding) && !file.table.tensors.contains(entry.first);
    });
    fuzz::require(same(file, back), "what was written is what was read");
  }
  return 0;
}
