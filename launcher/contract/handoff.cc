#include "launcher/contract/handoff.h"

#include "cache/prune.h"
#include "cache/wire.h"
#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

using cache::WireReader;
using cache::WireWriter;

void Write(WireWriter* out, const std::vector<EnvSetting>& settings) {
  out->List(settings, [out](const EnvSetting& setting) {
    out->String(setting.name);
    out->String(setting.value);
    out->Number(setting.only_if_unset);
  });
}

void Read(WireReader* in, std::vector<EnvSetting>* settings) {
  in->List(settings, [in](EnvSetting* setting) {
    in->String(&setting->name);
    in->String(&setting->value);
    in->Number(&setting->only_if_unset);
  });
}

void Write(WireWriter* out, const PreloadEntry& entry) {
  out->Number(entry.kind);
  out->String(entry.location.source);
  out->Number(entry.location.line);
  out->Number(entry.location.column);
  out->String(entry.text);
  out->Number(entry.optional);
  out->Number(entry.lazy);
  Write(out, entry.env);
  out->String(entry.module);
  out->List(entry.names, [out](const std::string& name) { out->String(name); });
}

void Read(WireReader* in, PreloadEntry* entry) {
  in->Number(&entry->kind);
  in->String(&entry->location.source);
  in->Number(&entry->location.line);
  in->Number(&entry->location.column);
  in->String(&entry->text);
  in->Number(&entry->optional);
  in->Number(&entry->lazy);
  Read(in, &entry->env);
  in->String(&entry->module);
  in->List(&entry->names, [in](std::string* name) { in->String(name); });
}

void Write(WireWriter* out, const image::Facts& facts) {
  out->List(facts, [out](const image::Fact& fact) {
    out->String(fact.name);
    out->String(fact.value);
  });
}

void Read(WireReader* in, image::Facts* facts) {
  in->List(facts, [in](image::Fact* fact) {
    in->String(&fact->name);
    in->String(&fact->value);
  });
}

void Write(WireWriter* out, const image::ImageOrder& order) {
  out->String(order.folder);
  Write(out, order.command);
  Write(out, order.facts);
  Write(out, order.environment);
  Write(out, order.askable);
  out->String(image::Serialize(order.late));
  out->List(order.allowed, [out](const std::string& name) { out->String(name); });
  out->String(order.hooks);
  out->Number(order.shared);
  out->Number(order.cpu);
  out->Number(order.stack_limit);
  out->Number(order.started_ns);
}

void Read(WireReader* in, image::ImageOrder* order) {
  in->String(&order->folder);
  Read(in, &order->command);
  Read(in, &order->facts);
  Read(in, &order->environment);
  Read(in, &order->askable);
  std::string late;
  in->String(&late);
  order->late = image::ParseLate(late).value_or(image::LateEntries());
  in->List(&order->allowed, [in](std::string* name) { in->String(name); });
  in->String(&order->hooks);
  in->Number(&order->shared);
  in->Number(&order->cpu);
  in->Number(&order->stack_limit);
  in->Number(&order->started_ns);
}

}  // namespace

std::string Handoff::Serialize() const {
  WireWriter out;
  out.String(python);
  out.String(library);
  out.Number(build);
  out.Number(json);
  out.String(record);
  out.String(report);
  out.String(cache_folder);
  out.Number(cache_named);
  out.Number(cache_readonly);
  out.Number(cache_sealed);
  out.Number(cache_refresh);
  out.Number(cache_size);
  out.Number(explain);
  out.Number(fast_exit);
  out.Number(wait_for_seal);
  out.Number(image_only);
  out.Number(image_trial);
  out.String(trial_image);
  out.Number(trial_pages);
  out.Number(trial_ends);
  out.Number(image_turn);
  out.String(export_to);
  out.String(import_from);
  out.Number(only_shared);
  Write(&out, plan.environment);
  out.List(plan.entries, [&out](const PreloadEntry& entry) { Write(&out, entry); });
  out.List(directives, [&out](const std::string& line) { out.String(line); });
  Write(&out, image);
  return out.Take();
}

std::optional<Handoff> Handoff::Parse(std::string_view bytes) {
  WireReader in(bytes);
  Handoff h;
  in.String(&h.python);
  in.String(&h.library);
  in.Number(&h.build);
  in.Number(&h.json);
  in.String(&h.record);
  in.String(&h.report);
  in.String(&h.cache_folder);
  in.Number(&h.cache_named);
  in.Number(&h.cache_readonly);
  in.Number(&h.cache_sealed);
  in.Number(&h.cache_refresh);
  in.Number(&h.cache_size);
  in.Number(&h.explain);
  in.Number(&h.fast_exit);
  in.Number(&h.wait_for_seal);
  in.Number(&h.image_only);
  in.Number(&h.image_trial);
  in.String(&h.trial_image);
  in.Number(&h.trial_pages);
  in.Number(&h.trial_ends);
  in.Number(&h.image_turn);
  in.String(&h.export_to);
  in.String(&h.import_from);
  in.Number(&h.only_shared);
  Read(&in, &h.plan.environment);
  in.List(&h.plan.entries, [&in](PreloadEntry* entry) { Read(&in, entry); });
  in.List(&h.directives, [&in](std::string* line) { in.String(line); });
  Read(&in, &h.image);
  if (!in.AtEnd()) return std::nullopt;
  return h;
}

std::optional<Handoff> Handoff::ParseUsual(std::string_view text) {
  const size_t first = text.find(kUsualSeparator);
  const size_t second = text.find(kUsualSeparator, first + 1);
  if (first == text.npos || second == text.npos) return std::nullopt;
  Handoff h;
  h.python = text.substr(0, first);
  h.library = text.substr(first + 1, second - first - 1);
  h.cache_folder = text.substr(second + 1);
  h.cache_size = cache::kDefaultMaxBytes;
  return h;
}

std::string Handoff::LibraryFile(std::string_view name) const { return Cat(library, "/", name); }

}  // namespace pylaunch
