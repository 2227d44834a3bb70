// SPDX-License-Identifier: Apache-2.0
// What the parts of the addon share. It moves bytes and file descriptors; it knows no policy.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

// A byte view of a Buffer, TypedArray or ArrayBuffer argument.
struct Bytes {
  uint8_t *data;
  size_t size;
};

Bytes bytes_of(const Napi::Value &value, const char *what);

// Throws a JavaScript Error with `code` set to the errno's name and `errno` to its number.
[[noreturn]] void throw_errno(Napi::Env env, const std::string &what, int error);

void init_kernel(Napi::Env env, Napi::Object exports);
void init_memory(Napi::Env env, Napi::Object exports);
void init_pinned(Napi::Env env, Napi::Object exports);
void init_ring(Napi::Env env, Napi::Object exports);
void init_matcher(Napi::Env env, Napi::Object exports);
void init_peer(Napi::Env env, Napi::Object exports);
