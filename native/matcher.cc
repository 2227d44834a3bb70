// SPDX-License-Identifier: Apache-2.0
// The decision code's face for JavaScript.
#include "addon.h"
#include "decision.h"

namespace {

Tables tables_of(const Napi::Value &value) {
  auto bytes = bytes_of(value, "tables");
  return {bytes.data, static_cast<uint32_t>(bytes.size)};
}

// subjectClass(tables, name): number
Napi::Value subject_class(const Napi::CallbackInfo &info) {
  auto t = tables_of(info[0]);
  auto name = bytes_of(info[1], "name");
  return Napi::Number::New(info.Env(), subject_class_of(t, name.data, name.size));
}

uint32_t number_of(const Napi::Value &value, const char *what, uint64_t limit) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), std::string(what) + ": expected a number");
  double number = value.As<Napi::Number>();
  if (!(number >= 0 && number < limit && number == static_cast<double>(static_cast<uint32_t>(number))))
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": out of range");
  return static_cast<uint32_t>(number);
}

// judge(tables, domain, input | null, classes: number[], decide, held): Uint32Array
// [id of the rule that denies, its action, id of the audit rule, its action, decision, failed, waiting rules ...];
// 0 = none. input null = an object without a name. A waiting rule is its offset and the flags of matcher.h.
Napi::Value judge(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  auto t = tables_of(info[0]);
  uint32_t domain = number_of(info[1], "domain", DOMAIN_COUNT);
  uint32_t decide = number_of(info[4], "decide", DECIDE_COUNT);
  uint32_t held = number_of(info[5], "held", 256);
  if (!info[3].IsArray()) throw Napi::TypeError::New(env, "classes: expected an array");
  auto list = info[3].As<Napi::Array>();
  if (list.Length() > SUBJECT_CLASSES) throw Napi::RangeError::New(env, "classes: too many");
  uint16_t classes[SUBJECT_CLASSES] = {};
  int count = static_cast<int>(list.Length());
  for (int i = 0; i < count; i++) classes[i] = number_of(list.Get(i), "class", COLUMN_LIMIT);
  Bytes input = {};
  if (!info[2].IsNull()) input = bytes_of(info[2], "input");
  uint32_t object = info[2].IsNull() ? HEADER(t, unnamed) : object_of(t, domain, input.data, input.size);
  judgement j = {};
  judge_object(t, HEADER(t, cells), object, classes, count, decide, held, &j);
  auto out = Napi::Uint32Array::New(env, 6 + j.waits);
  auto id = [&](uint32_t rule) { return rule ? RULE(t, rule, uint32_t, id) : 0; };
  auto action = [&](uint32_t rule) -> uint32_t { return rule ? RULE(t, rule, uint8_t, action) : 0; };
  out[0] = id(j.fired), out[1] = action(j.fired), out[2] = id(j.audit), out[3] = action(j.audit);
  out[4] = j.decisions[0], out[5] = j.failed;
  for (uint32_t i = 0; i < j.waits; i++) out[6 + i] = j.waiting[i];
  return out;
}

// argumentsListed(tables, waiting rule, args: Uint8Array of (argument NUL)*): boolean
Napi::Value arguments_listed(const Napi::CallbackInfo &info) {
  auto t = tables_of(info[0]);
  uint32_t rule = number_of(info[1], "rule", 1ull << 32);
  auto args = bytes_of(info[2], "arguments");
  return Napi::Boolean::New(info.Env(), are_listed(t, rule, args.data, args.size));
}

}  // namespace

void init_matcher(Napi::Env env, Napi::Object exports) {
  exports.Set("subjectClass", Napi::Function::New<subject_class>(env));
  exports.Set("judge", Napi::Function::New<judge>(env));
  exports.Set("argumentsListed", Napi::Function::New<arguments_listed>(env));
}
