// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "local.hpp"

#include <algorithm>
#include <limits>
#include <locale>
#include <numeric>
#include <sstream>
#include <string>

#include "steering.hpp"

namespace sherpa_tau {
namespace {

std::string array(const double* begin, const double* end) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text.precision(std::numeric_limits<double>::max_digits10);
  text << '[';
  for (const double* value = begin; value != end; ++value) text << (value == begin ? "" : ", ") << *value;
  text << ']';
  return text.str();
}

// Formats a tensor of up to two dimensions as nested JSON arrays.
std::string json(const ppx::Tensor& tensor) {
  const double* const data = tensor.data.data();
  const std::size_t size = tensor.data.size();
  if (tensor.shape.empty()) {
    const std::string text = array(data, data + 1);
    return text.substr(1, text.size() - 2);
  }
  if (tensor.shape.size() == 1) return array(data, data + size);
  const auto width = static_cast<std::size_t>(tensor.shape[1]);
  std::string text = "[";
  for (std::size_t row = 0; row < size; row += width) {
    text += (row == 0 ? "" : ", ") + array(data + row, data + row + width);
  }
  return text + "]";
}

// Collects the output line of one event from its statements.
class Summary {
 public:
  void see(const ppx::Event& event) {
    switch (event.kind) {
      case ppx::Event::Kind::sample:
        see_draw(event);
        break;
      case ppx::Event::Kind::observe:
        see_image(std::get<ppx::Normal>(*event.distribution).mean.data);
        break;
      case ppx::Event::Kind::tag:
        tags_ += ", \"" + std::string(event.name) + "\": " + json(*event.value);
        break;
    }
  }

  std::string line(std::uint64_t seed) const {
    return "{\"seed\": " + std::to_string(seed) + ", \"draws\": " + std::to_string(draws_) +
           ", \"accepted\": " + std::to_string(draws_ - rejected_) + ", \"scopes\": " + std::to_string(scope_) +
           ", \"voxels\": " + std::to_string(hit_) + ", \"calorimeter_gev\": " + json(energy_) + tags_ + "}";
  }

 private:
  void see_draw(const ppx::Event& event) {
    ++draws_;
    if (event.scope == 0) return;
    if (event.scope != scope_ || event.repetition != repetition_) {
      // The repetition before this one of the same scope was rejected.
      if (event.scope == scope_) rejected_ += in_repetition_;
      scope_ = event.scope;
      repetition_ = event.repetition;
      in_repetition_ = 0;
    }
    ++in_repetition_;
  }

  void see_image(const std::vector<double>& image) {
    energy_ = std::accumulate(image.begin(), image.end(), 0.0);
    hit_ = std::count_if(image.begin(), image.end(), [](double energy) { return energy > 0.0; });
  }

  std::uint64_t draws_ = 0;
  std::uint64_t rejected_ = 0;
  std::uint64_t in_repetition_ = 0;
  std::uint32_t scope_ = 0;
  std::uint32_t repetition_ = 0;
  std::ptrdiff_t hit_ = 0;
  double energy_ = 0.0;
  std::string tags_;
};

}  // namespace

void run_events(TauDecay& model, std::uint64_t events, std::uint64_t seed, std::ostream& out) {
  for (std::uint64_t i = 0; i < events; ++i) {
    Summary summary;
    ppx::run_local(model, seed + i, [&summary](const ppx::Event& event) { summary.see(event); });
    out << summary.line(seed + i) << '\n';
  }
  out.flush();
}

void list_channels(TauDecay& model, std::ostream& out) {
  ppx::run_local(model, 1);  // the table is known after the first event
  std::size_t index = 0;
  for (const steering::OpenChannel& channel : steering::open_channels()) {
    const std::vector<double> products(channel.products.begin(), channel.products.end());
    out << "{\"index\": " << index++ << ", \"probability\": " << json(channel.probability)
        << ", \"products\": " << json({products, {static_cast<std::int32_t>(products.size())}}) << ", \"name\": \""
        << channel.name << "\"}\n";
  }
  out.flush();
}

}  // namespace sherpa_tau
