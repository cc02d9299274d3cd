#include "launcher/handoff.h"

#include <nlohmann/json.hpp>

namespace pylaunch {

using Json = nlohmann::json;

// Found by nlohmann-json through argument-dependent lookup.
static void to_json(Json& j, const EnvSetting& s) {
  j = Json::array({s.name, s.value, s.only_if_unset});
}

static void from_json(const Json& j, EnvSetting& s) {
  j.at(0).get_to(s.name);
  j.at(1).get_to(s.value);
  j.at(2).get_to(s.only_if_unset);
}

static void to_json(Json& j, const PreloadEntry& e) {
  j = Json{{"kind", static_cast<int>(e.kind)},
           {"source", e.location.source},
           {"line", e.location.line},
           {"column", e.location.column},
           {"text", e.text},
           {"optional", e.optional},
           {"env", e.env},
           {"module", e.module},
           {"names", e.names}};
}

static void from_json(const Json& j, PreloadEntry& e) {
  e.kind = static_cast<PreloadEntry::Kind>(j.at("kind").get<int>());
  j.at("source").get_to(e.location.source);
  j.at("line").get_to(e.location.line);
  j.at("column").get_to(e.location.column);
  j.at("text").get_to(e.text);
  j.at("optional").get_to(e.optional);
  j.at("env").get_to(e.env);
  j.at("module").get_to(e.module);
  j.at("names").get_to(e.names);
}

std::string Handoff::Serialize() const {
  Json j{{"python", python},
         {"engine", engine},
         {"sealer", sealer},
         {"cache_folder", cache_folder},
         {"cache_readonly", cache_readonly},
         {"cache_refresh", cache_refresh},
         {"explain", explain},
         {"wait_for_seal", wait_for_seal},
         {"environment", plan.environment},
         {"entries", plan.entries}};
  std::string cbor;
  Json::to_cbor(j, cbor);
  return cbor;
}

std::optional<Handoff> Handoff::Parse(std::string_view cbor) {
  Json j = Json::from_cbor(cbor, /*strict=*/true, /*allow_exceptions=*/false);
  if (!j.is_object()) return std::nullopt;
  try {
    Handoff h;
    j.at("python").get_to(h.python);
    j.at("sealer").get_to(h.sealer);
    j.at("cache_folder").get_to(h.cache_folder);
    j.at("cache_readonly").get_to(h.cache_readonly);
    j.at("cache_refresh").get_to(h.cache_refresh);
    j.at("explain").get_to(h.explain);
    j.at("wait_for_seal").get_to(h.wait_for_seal);
    j.at("environment").get_to(h.plan.environment);
    j.at("entries").get_to(h.plan.entries);
    return h;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace pylaunch
