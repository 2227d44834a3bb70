// SPDX-License-Identifier: Apache-2.0
#include "addon.h"

#include <cstring>

Bytes bytes_of(const Napi::Value &value, const char *what) {
  if (value.IsTypedArray()) {
    auto array = value.As<Napi::TypedArray>();
    return {static_cast<uint8_t *>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
  }
  if (value.IsArrayBuffer()) {
    auto buffer = value.As<Napi::ArrayBuffer>();
    return {static_cast<uint8_t *>(buffer.Data()), buffer.ByteLength()};
  }
  throw Napi::TypeError::New(value.Env(), std::string(what) + ": expected bytes");
}

void throw_errno(Napi::Env env, const std::string &what, int error) {
  if (error < 0) error = -error;
  auto thrown = Napi::Error::New(env, what + ": " + strerror(error));
  const char *name = strerrorname_np(error);
  thrown.Set("code", Napi::String::New(env, name ? name : "UNKNOWN"));
  thrown.Set("errno", Napi::Number::New(env, error));
  throw thrown;
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  init_kernel(env, exports);
  init_memory(env, exports);
  init_pinned(env, exports);
  init_ring(env, exports);
  init_matcher(env, exports);
  init_peer(env, exports);
  return exports;
}

NODE_API_MODULE(belay, init)
