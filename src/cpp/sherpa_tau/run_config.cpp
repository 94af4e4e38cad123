// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "run_config.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace sherpa_tau {
namespace {

namespace fs = std::filesystem;

struct Line {
  std::string where;  // FILE:LINE
  std::string key;
  std::string rest;  // everything after the key
  std::vector<std::string> values;
};

// How one key is read: the number of its values (0: the rest of the line is a path), their limits, and the target.
struct Field {
  std::size_t count;
  double low;
  double high;
  std::function<void(RunConfig&, const std::vector<double>&)> store;
  std::function<fs::path&(RunConfig&)> path;
};

using Fields = std::map<std::string, Field, std::less<>>;

constexpr double max_value = 1e6;
constexpr double min_positive = 1e-6;

Field number(double low, double high, std::function<double&(RunConfig&)> at) {
  return {1, low, high, [at](RunConfig& c, const std::vector<double>& v) { at(c) = v[0]; }, {}};
}

Field range(double low, double high, std::function<Range&(RunConfig&)> at) {
  return {2, low, high, [at](RunConfig& c, const std::vector<double>& v) { at(c) = {v[0], v[1]}; }, {}};
}

Field path(std::function<fs::path&(RunConfig&)> at) { return {0, 0.0, 0.0, {}, std::move(at)}; }

void add_shower(Fields& fields, const std::string& prefix, ShowerShape CalorimeterConfig::* which) {
  const auto part = [which](double ShowerShape::* member) {
    return [which, member](RunConfig& c) -> double& { return c.calorimeter.*which.*member; };
  };
  fields[prefix + "depth_at_one_gev_cm"] = number(0.0, max_value, part(&ShowerShape::depth_at_one_gev_cm));
  fields[prefix + "depth_per_log_energy_cm"] = number(0.0, max_value, part(&ShowerShape::depth_per_log_energy_cm));
  fields[prefix + "depth_sigma_cm"] = number(min_positive, max_value, part(&ShowerShape::depth_sigma_cm));
  fields[prefix + "width_cm"] = number(min_positive, max_value, part(&ShowerShape::width_cm));
  fields[prefix + "response"] = number(0.0, 10.0, part(&ShowerShape::response));
}

Fields all_fields() {
  Fields fields;
  fields["run_card"] = path([](RunConfig& c) -> fs::path& { return c.run_card; });
  fields["sites"] = path([](RunConfig& c) -> fs::path& { return c.sites; });
  fields["px_gev"] = range(-max_value, max_value, [](RunConfig& c) -> Range& { return c.px_gev; });
  fields["py_gev"] = range(-max_value, max_value, [](RunConfig& c) -> Range& { return c.py_gev; });
  fields["pz_gev"] = range(-max_value, max_value, [](RunConfig& c) -> Range& { return c.pz_gev; });
  fields["noise_gev"] = number(min_positive, max_value, [](RunConfig& c) -> double& { return c.noise_gev; });
  const auto detector = [](double CalorimeterConfig::* member) {
    return [member](RunConfig& c) -> double& { return c.calorimeter.*member; };
  };
  fields["calorimeter_distance_cm"] = number(0.0, max_value, detector(&CalorimeterConfig::distance_cm));
  fields["calorimeter_cell_cm"] = number(min_positive, max_value, detector(&CalorimeterConfig::cell_cm));
  fields["calorimeter_layer_cm"] = number(min_positive, max_value, detector(&CalorimeterConfig::layer_cm));
  fields["calorimeter_cut_gev"] = number(0.0, max_value, detector(&CalorimeterConfig::cut_gev));
  fields["calorimeter_mip_gev_per_layer"] = number(0.0, max_value, detector(&CalorimeterConfig::mip_gev_per_layer));
  fields["calorimeter_mip_width_cm"] = number(min_positive, max_value, detector(&CalorimeterConfig::mip_width_cm));
  fields["calorimeter_mip_response"] = number(0.0, 10.0, detector(&CalorimeterConfig::mip_response));
  add_shower(fields, "calorimeter_em_", &CalorimeterConfig::electromagnetic);
  add_shower(fields, "calorimeter_hadronic_", &CalorimeterConfig::hadronic);
  return fields;
}

// Levenshtein distance, to suggest the key that was probably meant.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string nearest(std::string_view key, const Fields& fields) {
  return std::min_element(
             fields.begin(), fields.end(),
             [key](const auto& a, const auto& b) { return distance(key, a.first) < distance(key, b.first); })
      ->first;
}

std::vector<Line> read_lines(const fs::path& file) {
  std::ifstream stream(file);
  if (!stream) {
    throw ConfigError(file.string() + ": cannot be read; write one with `etalumis simulator config`");
  }
  std::vector<Line> lines;
  std::string text;
  for (std::size_t number = 1; std::getline(stream, text); ++number) {
    std::istringstream words(text.substr(0, text.find('#')));
    Line line;
    line.where = file.string() + ":" + std::to_string(number);
    if (!(words >> line.key)) continue;
    words >> std::ws;
    std::getline(words, line.rest);
    line.rest.erase(line.rest.find_last_not_of(" \t\r") + 1);
    words = std::istringstream(line.rest);
    for (std::string word; words >> word;) line.values.push_back(word);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string formatted(double value) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << value;
  return text.str();
}

double parse_number(const Line& line, const std::string& word, const Field& field) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  const std::string allowed = "a number from " + formatted(field.low) + " to " + formatted(field.high);
  if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value)) {
    throw ConfigError(line.where + ": " + line.key + ": expected " + allowed + ", found '" + word + "'");
  }
  if (value < field.low || value > field.high) {
    throw ConfigError(line.where + ": " + line.key + ": out of range: expected " + allowed + ", found " + word);
  }
  return value;
}

void apply(const Line& line, const Field& field, const fs::path& folder, RunConfig& config) {
  if (field.path ? line.rest.empty() : line.values.size() != field.count) {
    const std::string expected = field.path ? "a path" : std::to_string(field.count) + " value(s)";
    throw ConfigError(line.where + ": " + line.key + ": expected " + expected + ", found '" + line.rest + "'");
  }
  if (field.path) {
    const fs::path found = fs::absolute(folder / line.rest);
    if (!fs::is_regular_file(found)) {
      throw ConfigError(line.where + ": " + line.key + ": expected a readable file, found nothing at " +
                        found.string());
    }
    field.path(config) = found;
    return;
  }
  std::vector<double> values;
  for (const std::string& word : line.values) values.push_back(parse_number(line, word, field));
  if (values.size() == 2 && !(values[0] < values[1])) {
    throw ConfigError(line.where + ": " + line.key + ": expected LOW < HIGH, found " + line.values[0] + " " +
                      line.values[1]);
  }
  field.store(config, values);
}

}  // namespace

RunConfig read_config(const fs::path& file) {
  const Fields fields = all_fields();
  RunConfig config;
  std::set<std::string, std::less<>> seen;
  for (const Line& line : read_lines(file)) {
    const auto field = fields.find(line.key);
    if (field == fields.end()) {
      throw ConfigError(line.where + ": unknown key '" + line.key + "'; did you mean '" + nearest(line.key, fields) +
                        "'?");
    }
    if (!seen.insert(line.key).second) throw ConfigError(line.where + ": " + line.key + ": given twice");
    apply(line, field->second, fs::absolute(file).parent_path(), config);
  }
  for (const auto& [key, field] : fields) {
    if (seen.find(key) == seen.end()) throw ConfigError(file.string() + ": missing key '" + key + "'");
  }
  return config;
}

}  // namespace sherpa_tau
