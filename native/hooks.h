// SPDX-License-Identifier: Apache-2.0
// How a program gets called for an LSM hook. Where `bpf` is among the active security modules, as a BPF-LSM program.
// Elsewhere on the function of security/security.c that calls the hook's modules, whose arguments are the hook's (what
// differs, bpf/ knows by through_security): as fmod_ret, whose answer becomes the function's, or, for a hook
// that has no answer, as fentry.
#pragma once
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <napi.h>

#include <cstring>
#include <string>

enum class Attachment { kLsm, kFmodRet };

inline Attachment attachment_of(const Napi::Value &value) {
  return value.IsString() && value.As<Napi::String>().Utf8Value() == "fmod_ret" ? Attachment::kFmodRet
                                                                                 : Attachment::kLsm;
}

struct Target {
  std::string function;
  bpf_attach_type type;
  int parameters;  // -1 = this kernel has no such function
};

// The functions are named after the hooks, but for these (security/security.c).
inline std::string security_function(const std::string &hook) {
  static const struct {
    const char *hook, *function;
  } others[] = {
      {"bprm_check_security", "security_bprm_check"},
      {"userns_create", "security_create_user_ns"},
      {"sb_alloc_security", "security_sb_alloc"},
      {"sk_alloc_security", "security_sk_alloc"},
      {"sk_free_security", "security_sk_free"},
      {"inode_alloc_security", "security_inode_alloc"},
      {"inode_free_security", "security_inode_free"},
      {"file_alloc_security", "security_file_alloc"},
      {"file_free_security", "security_file_free"},
  };
  for (auto &other : others)
    if (hook == other.hook) return other.function;
  return "security_" + hook;
}

inline Target target_of(const btf *kernel, const std::string &hook, Attachment attachment) {
  Target target{"bpf_lsm_" + hook, BPF_LSM_MAC, -1};
  if (attachment == Attachment::kFmodRet) target = {security_function(hook), BPF_MODIFY_RETURN, -1};
  int id = btf__find_by_name_kind(kernel, target.function.c_str(), BTF_KIND_FUNC);
  if (id < 0) return target;
  auto *prototype = btf__type_by_id(kernel, btf__type_by_id(kernel, id)->type);
  target.parameters = btf_vlen(prototype);
  if (attachment == Attachment::kFmodRet && prototype->type == 0) target.type = BPF_TRACE_FENTRY;
  return target;
}
