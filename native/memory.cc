// SPDX-License-Identifier: Apache-2.0
// 64-bit words of memory that is shared with the programs, read and changed whole.
#include "addon.h"

namespace {

uint64_t *word_at(const Napi::CallbackInfo &info, const Bytes &memory, size_t offset) {
  if (memory.size < 8 || offset > memory.size - 8 || offset % 8) throw Napi::RangeError::New(info.Env(), "offset outside of memory");
  return reinterpret_cast<uint64_t *>(memory.data + offset);
}

uint64_t value_of(const Napi::Value &value) {
  bool lossless;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

// store64(memory, offset, value): one atomic store
Napi::Value store64(const Napi::CallbackInfo &info) {
  auto *word = word_at(info, bytes_of(info[0], "memory"), info[1].As<Napi::Number>().Int64Value());
  __atomic_store_n(word, value_of(info[2]), __ATOMIC_SEQ_CST);
  return info.Env().Undefined();
}

// add64(memory, offset, more): atomically
Napi::Value add64(const Napi::CallbackInfo &info) {
  auto *word = word_at(info, bytes_of(info[0], "memory"), info[1].As<Napi::Number>().Int64Value());
  __atomic_fetch_add(word, value_of(info[2]), __ATOMIC_SEQ_CST);
  return info.Env().Undefined();
}

// differing(memory, size, one, other?): number[]; of entries of `size` bytes, those whose words at the two offsets differ, or
// whose only one is not 0. Some ten thousand are looked at twice a second.
Napi::Value differing(const Napi::CallbackInfo &info) {
  auto memory = bytes_of(info[0], "memory");
  size_t size = info[1].As<Napi::Number>().Int64Value();
  size_t one = info[2].As<Napi::Number>().Int64Value();
  bool two = !info[3].IsUndefined();
  size_t other = two ? info[3].As<Napi::Number>().Int64Value() : one;
  for (size_t offset : {one, other})
    if (size < 8 || size % 8 || offset > size - 8 || offset % 8) throw Napi::RangeError::New(info.Env(), "no word of an entry");
  auto found = Napi::Array::New(info.Env());
  for (size_t entry = 0; entry < memory.size / size; entry++) {
    auto word = [&](size_t offset) {
      return __atomic_load_n(reinterpret_cast<uint64_t *>(memory.data + entry * size + offset), __ATOMIC_RELAXED);
    };
    if (word(one) != (two ? word(other) : 0)) found.Set(found.Length(), static_cast<double>(entry));
  }
  return found;
}

}  // namespace

void init_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("store64", Napi::Function::New<store64>(env));
  exports.Set("add64", Napi::Function::New<add64>(env));
  exports.Set("differing", Napi::Function::New<differing>(env));
}
