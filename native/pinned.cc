// SPDX-License-Identifier: Apache-2.0
// Maps that programs of another schema have pinned: their descriptors, entries, and the layout of what is in them, from
// the type information that the kernel keeps with each.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "addon.h"

namespace {

class Pinned : public Napi::ObjectWrap<Pinned> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Pinned",
                       {InstanceMethod<&Pinned::fd>("fd"), InstanceMethod<&Pinned::keys>("keys"),
                        InstanceMethod<&Pinned::lookup>("lookup"), InstanceMethod<&Pinned::layout>("layout"),
                        InstanceMethod<&Pinned::close>("close")});
  }

  // new Pinned(directory: string)
  explicit Pinned(const Napi::CallbackInfo &info)
      : Napi::ObjectWrap<Pinned>(info), directory_(info[0].As<Napi::String>().Utf8Value()) {}

  ~Pinned() override { release(); }

 private:
  struct Map {
    int fd;
    bpf_map_info info;
  };
  std::string directory_;
  std::map<std::string, Map> maps_;
  std::unique_ptr<btf, void (*)(btf *)> types_{nullptr, btf__free};

  void release() {
    for (auto &[name, map] : maps_) ::close(map.fd);
    maps_.clear();
    types_.reset();
  }

  Map *find(const std::string &name) {
    auto known = maps_.find(name);
    if (known != maps_.end()) return &known->second;
    Map map{bpf_obj_get((directory_ + "/map_" + name).c_str()), {}};
    if (map.fd < 0) return nullptr;
    __u32 size = sizeof map.info;
    if (bpf_obj_get_info_by_fd(map.fd, &map.info, &size)) {
      ::close(map.fd);
      return nullptr;
    }
    return &(maps_[name] = map);
  }

  Map &map(const Napi::CallbackInfo &info) {
    auto name = info[0].As<Napi::String>().Utf8Value();
    auto *found = find(name);
    if (!found) throw_errno(info.Env(), "cannot open " + directory_ + "/map_" + name, errno);
    return *found;
  }

  // fd(map): number; -1 = it is not pinned
  Napi::Value fd(const Napi::CallbackInfo &info) {
    auto *found = find(info[0].As<Napi::String>().Utf8Value());
    return Napi::Number::New(info.Env(), found ? found->fd : -1);
  }

  // keys(map): Buffer[]
  Napi::Value keys(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto &m = map(info);
    auto all = Napi::Array::New(env);
    std::vector<uint8_t> key(m.info.key_size), next(m.info.key_size);
    bool first = true;
    while (!bpf_map_get_next_key(m.fd, first ? nullptr : key.data(), next.data())) {
      all.Set(all.Length(), Napi::Buffer<uint8_t>::Copy(env, next.data(), next.size()));
      key = next;
      first = false;
      if (all.Length() > m.info.max_entries * 2ul) break;  // entries deleted meanwhile restart the walk
    }
    return all;
  }

  // lookup(map, key): Buffer | undefined. Per-CPU maps give all CPUs' values one after another.
  Napi::Value lookup(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto &m = map(info);
    auto key = bytes_of(info[1], "key");
    size_t size = m.info.value_size;
    if (m.info.type == BPF_MAP_TYPE_PERCPU_ARRAY) size = ((size + 7) & ~7ul) * libbpf_num_possible_cpus();
    if (key.size != m.info.key_size) throw Napi::RangeError::New(env, "key of the wrong size");
    auto value = Napi::Buffer<uint8_t>::New(env, size);
    if (bpf_map_lookup_elem(m.fd, key.data, value.Data())) return env.Undefined();
    return value;
  }

  // layout(struct): {size, fields: {name: {offset, size}}} | undefined, as those programs had it
  Napi::Value layout(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    if (!types_) {
      auto *any = find("settings");
      if (!any) throw_errno(env, "cannot open " + directory_ + "/map_settings", errno);
      types_.reset(btf__load_from_kernel_by_id(any->info.btf_id));
      if (!types_) throw_errno(env, "cannot read the types of " + directory_, errno);
    }
    auto name = info[0].As<Napi::String>().Utf8Value();
    int id = btf__find_by_name_kind(types_.get(), name.c_str(), BTF_KIND_STRUCT);
    if (id < 0) return env.Undefined();
    auto *type = btf__type_by_id(types_.get(), id);
    auto fields = Napi::Object::New(env);
    for (int i = 0; i < btf_vlen(type); i++) {
      auto *member = btf_members(type) + i;
      auto field = Napi::Object::New(env);
      auto size = btf__resolve_size(types_.get(), member->type);
      field.Set("offset", Napi::Number::New(env, btf_member_bit_offset(type, i) / 8));
      field.Set("size", Napi::Number::New(env, size < 0 ? 0 : static_cast<double>(size)));
      fields.Set(btf__name_by_offset(types_.get(), member->name_off), field);
    }
    auto result = Napi::Object::New(env);
    result.Set("size", Napi::Number::New(env, type->size));
    result.Set("fields", fields);
    return result;
  }

  Napi::Value close(const Napi::CallbackInfo &info) {
    release();
    return info.Env().Undefined();
  }
};

}  // namespace

void init_pinned(Napi::Env env, Napi::Object exports) { exports.Set("Pinned", Pinned::define(env)); }
