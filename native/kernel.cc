// SPDX-License-Identifier: Apache-2.0
// The BPF object: open, load, attach, pin; its maps and their memory. One Kernel owns one object and
// frees it with itself or with close(), whichever is first.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "addon.h"
#include "hooks.h"

namespace {

constexpr size_t kKeptBytes = 64 << 10;
constexpr size_t kLogLines = 25;

// libbpf tells what went wrong only through a process-wide printer; what it says is kept for the error.
std::string &messages() {
  static thread_local std::string text;
  return text;
}

int keep_message(libbpf_print_level level, const char *format, va_list args) {
  if (level == LIBBPF_DEBUG) return 0;
  // a verifier's log comes as one message of up to megabytes, of which the end tells
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (n <= 0) return n;
  std::string line(n + 1, 0);
  vsnprintf(line.data(), line.size(), format, args);
  line.resize(n);
  auto &text = messages();
  text += line.size() > kKeptBytes ? line.substr(line.size() - kKeptBytes) : line;
  if (text.size() > 2 * kKeptBytes) text.erase(0, text.size() - 2 * kKeptBytes);
  return n;
}

std::string last_lines(const std::string &text, size_t lines) {
  size_t at = text.size();
  while (at > 0 && text[at - 1] == '\n') at--;
  size_t end = at;
  for (size_t n = 0; at > 0; at--)
    if (text[at - 1] == '\n' && ++n == lines) break;
  return text.substr(at, end - at);
}

std::string kernel_release() {
  utsname u;
  return uname(&u) ? "unknown" : u.release;
}

const char *section_below(const bpf_program *program, const char *prefix) {
  const char *section = bpf_program__section_name(program);
  size_t length = strlen(prefix);
  return strncmp(section, prefix, length) ? nullptr : section + length;
}

const char *hook_of(const bpf_program *program) { return section_below(program, "lsm/"); }

// Closes itself.
struct Descriptor {
  int fd;
  explicit Descriptor(int opened) : fd(opened) {}
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

class Kernel : public Napi::ObjectWrap<Kernel> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Kernel",
                       {InstanceMethod<&Kernel::prepare>("prepare"), InstanceMethod<&Kernel::load>("load"), InstanceMethod<&Kernel::attach>("attach"),
                        InstanceMethod<&Kernel::detached>("detached"), InstanceMethod<&Kernel::attach_one>("attachOne"), InstanceMethod<&Kernel::detach_one>("detachOne"),
                        InstanceMethod<&Kernel::close>("close"), InstanceMethod<&Kernel::lookup>("lookup"),
                        InstanceMethod<&Kernel::update>("update"), InstanceMethod<&Kernel::insert>("insert"), InstanceMethod<&Kernel::remove>("delete"),
                        InstanceMethod<&Kernel::keys>("keys"), InstanceMethod<&Kernel::fill>("fill"), InstanceMethod<&Kernel::memory>("memory"),
                        InstanceMethod<&Kernel::fd>("fd"), InstanceMethod<&Kernel::map_id>("mapId"),
                        InstanceMethod<&Kernel::write>("write"), InstanceMethod<&Kernel::read>("read"), InstanceMethod<&Kernel::iterate>("iterate"),
                        InstanceMethod<&Kernel::forget>("forget"),
                        InstanceMethod<&Kernel::stats>("stats"), InstanceMethod<&Kernel::globals>("setGlobals")});
  }

  // new Kernel(object: Uint8Array)
  explicit Kernel(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Kernel>(info) {
    auto bytes = bytes_of(info[0], "object");
    messages().clear();
    DECLARE_LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "belay");
    object_ = bpf_object__open_mem(bytes.data, bytes.size, &options);
    if (!object_) fail(info.Env(), "cannot read the BPF object", errno);
  }

  ~Kernel() override { release(); }

 private:
  bpf_object *object_ = nullptr;
  std::string pin_;                         // directory of pins; empty = nothing is pinned
  std::string programs_;                    // how the names of these programs' pins begin
  std::map<std::string, int> adopted_;      // programs that an agent before this one had loaded
  std::map<std::string, int> links_;        // descriptors
  std::map<std::string, int> on_demand_;
  std::map<std::string, bpf_map *> taken_;  // maps of another schema
  std::map<std::string, std::pair<void *, size_t>> mappings_;
  Napi::ObjectReference buffers_;

  void release() {
    for (auto *descriptors : {&links_, &on_demand_, &adopted_}) {
      for (auto &[name, fd] : *descriptors) ::close(fd);
      descriptors->clear();
    }
    // memory() hands out views; they are detached by close() or die with the environment
    for (auto &[name, mapping] : mappings_) munmap(mapping.first, mapping.second);
    mappings_.clear();
    if (object_) bpf_object__close(object_);
    object_ = nullptr;
  }

  [[noreturn]] void fail(Napi::Env env, const std::string &what, int error, const char *program = nullptr,
                         const std::string &log = "") {
    if (error < 0) error = -error;
    std::string text = what + " on kernel " + kernel_release() + ": " + strerror(error);
    std::string detail = last_lines(log.empty() ? messages() : log, kLogLines);
    if (!detail.empty()) text += "\n" + detail;
    auto thrown = Napi::Error::New(env, text);
    const char *name = strerrorname_np(error);
    thrown.Set("code", Napi::String::New(env, name ? name : "UNKNOWN"));
    if (program) thrown.Set("program", Napi::String::New(env, program));
    throw thrown;
  }

  bpf_map *map(const Napi::CallbackInfo &info) {
    if (!object_) throw Napi::Error::New(info.Env(), "the kernel object is closed");
    auto name = info[0].As<Napi::String>().Utf8Value();
    auto *found = bpf_object__find_map_by_name(object_, name.c_str());
    if (!found) throw Napi::Error::New(info.Env(), "no map " + name);
    return found;
  }

  // setGlobals({name: number | bigint | boolean | Uint8Array}): constants of .rodata; only before load().
  Napi::Value globals(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto values = info[0].As<Napi::Object>();
    auto *btf = bpf_object__btf(object_);
    auto *rodata = bpf_object__find_map_by_name(object_, ".rodata");
    int id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
    if (!rodata || id < 0) throw Napi::Error::New(env, "the object has no constants");
    size_t size;
    auto *base = static_cast<uint8_t *>(const_cast<void *>(bpf_map__initial_value(rodata, &size)));
    auto *section = btf__type_by_id(btf, id);
    for (auto key : values.GetPropertyNames()) {
      auto name = Napi::Value(key.second).As<Napi::String>().Utf8Value();
      bool found = false;
      for (int i = 0; i < btf_vlen(section); i++) {
        auto *info_ = btf_var_secinfos(section) + i;
        auto *var = btf__type_by_id(btf, info_->type);
        if (name != btf__name_by_offset(btf, var->name_off)) continue;
        auto value = Napi::Value(values.Get(name));
        found = true;
        if (value.IsTypedArray()) {
          auto bytes = bytes_of(value, "constant");
          memcpy(base + info_->offset, bytes.data, std::min<size_t>(info_->size, bytes.size));
          continue;
        }
        bool lossless;
        uint64_t number = value.IsBigInt()    ? value.As<Napi::BigInt>().Uint64Value(&lossless)
                          : value.IsBoolean() ? value.As<Napi::Boolean>().Value()
                                              : static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
        memcpy(base + info_->offset, &number, std::min<size_t>(info_->size, sizeof number));
      }
      if (!found) throw Napi::Error::New(env, "no constant " + name);
    }
    return env.Undefined();
  }

  // prepare({pin?, identity, attachment, previous?}): {absent: string[], adopted: boolean}; absent are the programs left
  // out because this kernel lacks their hook. With pin, maps that are pinned in that directory are used again, and new
  // ones are pinned there; so are programs, by identity, which says what they were made from. previous: descriptors, by
  // name, of maps of another schema's that are taken over as they are, and whose programs are loaded only then.
  Napi::Value prepare(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto options = info[0].As<Napi::Object>();
    if (options.Get("pin").IsString()) pin_ = options.Get("pin").As<Napi::String>().Utf8Value();
    programs_ = "prog_" + options.Get("identity").As<Napi::String>().Utf8Value() + "_";
    auto attachment = attachment_of(options.Get("attachment"));
    auto previous = Napi::Value(options.Get("previous"));
    messages().clear();
    std::unique_ptr<btf, void (*)(btf *)> kernel(btf__load_vmlinux_btf(), btf__free);
    if (libbpf_get_error(kernel.get())) {
      kernel.release();
      fail(env, "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which Belay needs to find its structures", ENOENT);
    }
    auto absent = Napi::Array::New(env);
    bpf_program *program;
    bpf_object__for_each_program(program, object_) {
      if (attachment == Attachment::kLsm && section_below(program, "fentry/security_"))
        bpf_program__set_autoload(program, false);
      const char *watched = section_below(program, "fexit/");
      if (watched && btf__find_by_name_kind(kernel.get(), watched, BTF_KIND_FUNC) < 0) {
        bpf_program__set_autoload(program, false);
        absent.Set(absent.Length(), bpf_program__name(program));
      }
      const char *hook = hook_of(program);
      if (!hook) continue;
      auto target = target_of(kernel.get(), hook, attachment);
      if (target.parameters < 0) {
        bpf_program__set_autoload(program, false);
        absent.Set(absent.Length(), bpf_program__name(program));
        continue;
      }
      if (attachment == Attachment::kLsm) continue;
      bpf_program__set_type(program, BPF_PROG_TYPE_TRACING);
      bpf_program__set_expected_attach_type(program, target.type);
      int error = bpf_program__set_attach_target(program, 0, target.function.c_str());
      if (error) fail(env, "cannot find " + target.function, error, bpf_program__name(program));
    }
    // A map that cannot be, or is of no use, the other way; the programs do without.
    for (auto *name : attachment == Attachment::kLsm ? std::vector<const char *>{"socket_receivers"}
                                                     : std::vector<const char *>{"verdicts", "receivers"})
      if (auto *unused = bpf_object__find_map_by_name(object_, name)) bpf_map__set_autocreate(unused, false);
    for (auto [name, user] : {std::pair{"previous_tasks", "carry"}, std::pair{"previous_receivers", "carry_receivers"}}) {
      auto *taken = bpf_object__find_map_by_name(object_, name);
      if (!taken) continue;
      int fd = previous.IsObject() && previous.As<Napi::Object>().Get(name).IsNumber()
                   ? previous.As<Napi::Object>().Get(name).As<Napi::Number>().Int32Value()
                   : -1;
      if (fd >= 0) {
        int error = bpf_map__reuse_fd(taken, fd);
        if (error) fail(env, std::string("cannot take over ") + name, error);
        taken_[name] = taken;  // libbpf has given it the other's name
      } else {
        bpf_map__set_autocreate(taken, false);
        bpf_program__set_autoload(bpf_object__find_program_by_name(object_, user), false);
      }
    }
    if (!pin_.empty()) {
      bpf_map *m;
      bpf_object__for_each_map(m, object_) {
        if (bpf_map__is_internal(m) || !bpf_map__autocreate(m) || bpf_map__fd(m) >= 0) continue;
        int error = bpf_map__set_pin_path(m, (pin_ + "/map_" + bpf_map__name(m)).c_str());
        if (error) fail(env, "cannot pin maps", error);
      }
    }
    auto result = Napi::Object::New(env);
    result.Set("absent", absent);
    // an upgrade needs programs that are loaded for it alone
    result.Set("adopted", !pin_.empty() && !previous.IsObject() && adopt_programs());
    return result;
  }

  // Takes all programs as an agent before this one loaded them, if it made them from the same and for the maps that are
  // pinned now: verifying them takes most of an agent's start. What an agent left that ended before all were pinned is
  // loaded anew.
  bool adopt_programs() {
    std::set<uint32_t> maps;
    bpf_map *m;
    bpf_object__for_each_map(m, object_) {
      if (!bpf_map__autocreate(m)) continue;
      bpf_map_info info = {};
      __u32 size = sizeof info;
      Descriptor pinned{bpf_obj_get(bpf_map__is_internal(m) ? place_of_variables(m).c_str() : bpf_map__pin_path(m))};
      if (pinned.fd < 0 || bpf_obj_get_info_by_fd(pinned.fd, &info, &size)) return false;
      maps.insert(info.id);
    }
    bpf_program *program;
    bool all = true;
    bpf_object__for_each_program(program, object_) {
      if (!bpf_program__autoload(program)) continue;
      std::string name = bpf_program__name(program);
      int fd = bpf_obj_get((pin_ + "/" + programs_ + name).c_str());
      if (fd >= 0) adopted_[name] = fd;
      all = all && fd >= 0 && uses_only(fd, maps);
    }
    bpf_object__for_each_map(m, object_) {
      if (!all || bpf_map__is_internal(m) || !bpf_map__autocreate(m)) continue;
      Descriptor pinned{bpf_obj_get(bpf_map__pin_path(m))};
      all = pinned.fd >= 0 && !bpf_map__reuse_fd(m, pinned.fd);
    }
    if (all) return true;
    for (auto &[name, fd] : adopted_) ::close(fd);
    adopted_.clear();
    return false;
  }

  static bool uses_only(int program, const std::set<uint32_t> &maps) {
    std::vector<uint32_t> ids(64);
    bpf_prog_info info = {};
    __u32 size = sizeof info;
    info.nr_map_ids = ids.size();
    info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
    if (bpf_obj_get_info_by_fd(program, &info, &size) || info.nr_map_ids > ids.size()) return false;
    return std::all_of(ids.begin(), ids.begin() + info.nr_map_ids, [&](uint32_t id) { return maps.count(id) > 0; });
  }

  // Where a map is pinned that libbpf made for variables: with the programs, whose own it is. It is called belay.bss, and
  // a bpffs has no dots in names.
  std::string place_of_variables(const bpf_map *m) {
    return pin_ + "/" + programs_ + "variables_" + (strrchr(bpf_map__name(m), '.') + 1);
  }

  // -1 = it is not loaded
  int fd_of(const bpf_program *program) {
    auto found = adopted_.find(bpf_program__name(program));
    return found == adopted_.end() ? bpf_program__fd(program) : found->second;
  }

  // load(): where they were not adopted
  Napi::Value load(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    messages().clear();
    int error = bpf_object__load(object_);
    bpf_program *program;
    if (error) {
      // libbpf loads a program that failed once more with a log, and prints that: the last lines say why
      std::string failed;
      auto text = messages();
      bpf_object__for_each_program(program, object_) {
        std::string name = bpf_program__name(program);
        if (text.find("prog '" + name + "'") != std::string::npos) failed = name;
      }
      if (failed.empty()) fail(env, "cannot load the BPF object", error);
      size_t end = text.find("-- END PROG LOAD LOG --");
      fail(env, "cannot load program " + failed, error, failed.c_str(), text.substr(0, end));
    }
    if (pin_.empty()) return env.Undefined();
    bpf_map *m;
    bpf_object__for_each_map(m, object_)
      if (bpf_map__is_internal(m)) pin(env, bpf_map__fd(m), place_of_variables(m));
    bpf_object__for_each_program(program, object_) {
      // those of an upgrade read maps of the programs before
      if (bpf_program__fd(program) < 0 || !strncmp(bpf_program__name(program), "carry", 5)) continue;
      pin(env, bpf_program__fd(program), pin_ + "/" + programs_ + bpf_program__name(program));
    }
    return env.Undefined();
  }

  // attach({except: string[]}): string[]; names of the programs that now run: all but those. With pins, each link takes
  // the place of the one pinned before it, never leaving the hook empty.
  Napi::Value attach(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    std::set<std::string> except;
    auto names = info[0].As<Napi::Object>().Get("except").As<Napi::Array>();
    for (uint32_t i = 0; i < names.Length(); i++) except.insert(names.Get(i).As<Napi::String>().Utf8Value());
    auto attached = Napi::Array::New(env);
    messages().clear();
    bpf_program *program;
    bpf_object__for_each_program(program, object_) {
      if (fd_of(program) < 0 || !strncmp(bpf_program__section_name(program), "iter", 4)) continue;
      const char *name = bpf_program__name(program);
      if (except.count(name)) continue;
      links_[name] = link_to(env, program, 0);
      attached.Set(attached.Length(), name);
    }
    return attached;
  }

  // A descriptor of the link that calls a program: the pinned one, if it is this program's.
  int link_to(Napi::Env env, const bpf_program *program, int target) {
    const char *name = bpf_program__name(program);
    auto place = pin_ + "/link_" + name;
    if (!pin_.empty()) {
      int pinned = bpf_obj_get(place.c_str());
      if (pinned >= 0 && calls(pinned, fd_of(program))) return pinned;
      if (pinned >= 0) ::close(pinned);
    }
    int link = bpf_link_create(fd_of(program), target, bpf_program__expected_attach_type(program), nullptr);
    if (link < 0) fail(env, std::string("cannot attach program ") + name, errno, name);
    if (!pin_.empty()) pin(env, link, place);
    return link;
  }

  static bool calls(int link, int program) {
    bpf_link_info calling = {};
    bpf_prog_info called = {};
    __u32 link_size = sizeof calling, program_size = sizeof called;
    return !bpf_obj_get_info_by_fd(link, &calling, &link_size) &&
           !bpf_obj_get_info_by_fd(program, &called, &program_size) && calling.prog_id == called.id &&
           !(calling.type == BPF_LINK_TYPE_CGROUP && calling.cgroup.cgroup_id == 0);
  }

  void pin(Napi::Env env, int fd, const std::string &place) {
    auto fresh = place + "_new";
    unlink(fresh.c_str());
    int error = bpf_obj_pin(fd, fresh.c_str());
    if (error) fail(env, "cannot pin " + fresh, error);
    if (rename(fresh.c_str(), place.c_str())) fail(env, "cannot pin " + place, errno);
  }

  // detached(): string[]; what the kernel says of programs that were attached and are not any more, or whose pin is not
  // theirs any more
  Napi::Value detached(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto found = Napi::Array::New(env);
    auto look = [&](const std::string &name, int link) -> void {
      bpf_link_info now = {}, pinned = {};
      __u32 size = sizeof now;
      // a program for packets is taken off, or replaced, by whoever may, and its link stays
      if (bpf_obj_get_info_by_fd(link, &now, &size) ||
          !calls(link, fd_of(bpf_object__find_program_by_name(object_, name.c_str()))))
        return static_cast<void>(found.Set(found.Length(), name));
      if (pin_.empty()) return;
      Descriptor there{bpf_obj_get((pin_ + "/link_" + name).c_str())};
      size = sizeof pinned;
      if (there.fd < 0 || bpf_obj_get_info_by_fd(there.fd, &pinned, &size) || pinned.id != now.id)
        found.Set(found.Length(), name + " (its pin is gone)");
    };
    for (auto &[name, link] : links_) look(name, link);
    for (auto &[name, link] : on_demand_) look(name, link);
    return found;
  }

  // attachOne(program, cgroup): one that is attached while it is needed. A program for packets is attached to the cgroup
  // of this path and all below.
  Napi::Value attach_one(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto name = info[0].As<Napi::String>().Utf8Value(), path = info[1].As<Napi::String>().Utf8Value();
    auto *program = bpf_object__find_program_by_name(object_, name.c_str());
    if (!program) throw Napi::Error::New(env, "no program " + name);
    if (on_demand_.count(name)) return env.Undefined();
    messages().clear();
    if (strncmp(bpf_program__section_name(program), "cgroup", 6)) {
      on_demand_[name] = link_to(env, program, 0);
      return env.Undefined();
    }
    Descriptor cgroup{open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (cgroup.fd < 0) fail(env, "cannot open the cgroup " + path, errno, name.c_str());
    on_demand_[name] = link_to(env, program, cgroup.fd);
    return env.Undefined();
  }

  // detachOne(program): also one that is only pinned, by an agent before this one
  Napi::Value detach_one(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto name = info[0].As<Napi::String>().Utf8Value();
    if (!pin_.empty()) unlink((pin_ + "/link_" + name).c_str());
    auto found = on_demand_.find(name);
    if (found != on_demand_.end()) {
      ::close(found->second);
      on_demand_.erase(found);
    }
    return env.Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo &info) {
    if (!buffers_.IsEmpty()) {
      auto held = buffers_.Value();
      for (auto &[name, mapping] : mappings_) {
        auto view = held.Get(name);
        if (view.IsArrayBuffer()) view.As<Napi::ArrayBuffer>().Detach();
      }
      buffers_.Reset();
    }
    release();
    return info.Env().Undefined();
  }

  // lookup(map, key): Buffer | undefined. Per-CPU maps give all CPUs' values one after another.
  Napi::Value lookup(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    auto key = bytes_of(info[1], "key");
    size_t size = bpf_map__value_size(m);
    if (bpf_map__type(m) == BPF_MAP_TYPE_PERCPU_ARRAY) size = ((size + 7) & ~7ul) * libbpf_num_possible_cpus();
    if (key.size != bpf_map__key_size(m)) throw Napi::RangeError::New(env, "key of the wrong size");
    auto value = Napi::Buffer<uint8_t>::New(env, size);
    int error = bpf_map_lookup_elem(bpf_map__fd(m), key.data, value.Data());
    if (error == -ENOENT) return env.Undefined();
    if (error) throw_errno(env, std::string("cannot read map ") + bpf_map__name(m), error);
    return value;
  }

  // update(map, key, value)
  Napi::Value update(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    auto key = bytes_of(info[1], "key"), value = bytes_of(info[2], "value");
    if (key.size != bpf_map__key_size(m) || value.size != bpf_map__value_size(m))
      throw Napi::RangeError::New(env, "key or value of the wrong size");
    int error = bpf_map_update_elem(bpf_map__fd(m), key.data, value.data, BPF_ANY);
    if (error) throw_errno(env, std::string("cannot write map ") + bpf_map__name(m), error);
    return env.Undefined();
  }

  // delete(map, key): boolean; false if it was not there
  Napi::Value remove(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    auto key = bytes_of(info[1], "key");
    if (key.size != bpf_map__key_size(m)) throw Napi::RangeError::New(env, "key of the wrong size");
    int error = bpf_map_delete_elem(bpf_map__fd(m), key.data);
    if (error && error != -ENOENT) throw_errno(env, std::string("cannot write map ") + bpf_map__name(m), error);
    return Napi::Boolean::New(env, !error);
  }

  // keys(map): Buffer of all keys, one after another
  Napi::Value keys(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    size_t size = bpf_map__key_size(m);
    std::vector<uint8_t> all, key(size), next(size);
    bool first = true;
    while (!bpf_map_get_next_key(bpf_map__fd(m), first ? nullptr : key.data(), next.data())) {
      all.insert(all.end(), next.begin(), next.end());
      key = next;
      first = false;
      if (all.size() / size > bpf_map__max_entries(m) * 2ul) break;  // entries deleted meanwhile restart the walk
    }
    return Napi::Buffer<uint8_t>::Copy(env, all.data(), all.size());
  }

  // fill(map): [number of keys, the most there can be]
  Napi::Value fill(const Napi::CallbackInfo &info) {
    auto *m = map(info);
    std::vector<uint8_t> key(bpf_map__key_size(m)), next(key.size());
    uint32_t used = 0, most = bpf_map__max_entries(m);
    // entries deleted meanwhile restart the walk
    while (used < most && !bpf_map_get_next_key(bpf_map__fd(m), used ? key.data() : nullptr, next.data())) {
      key.swap(next);
      used++;
    }
    auto result = Napi::Array::New(info.Env(), 2);
    result.Set(0u, used);
    result.Set(1u, most);
    return result;
  }

  // memory(map): ArrayBuffer onto the values of a BPF_F_MMAPABLE array, shared with the programs
  Napi::Value memory(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    std::string name = bpf_map__name(m);
    if (buffers_.IsEmpty()) buffers_ = Napi::Persistent(Napi::Object::New(env));
    if (mappings_.count(name)) return buffers_.Value().Get(name);
    size_t page = sysconf(_SC_PAGESIZE);
    size_t size = static_cast<size_t>((bpf_map__value_size(m) + 7) & ~7u) * bpf_map__max_entries(m);
    size_t rounded = (size + page - 1) & ~(page - 1);
    void *base = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), 0);
    if (base == MAP_FAILED) throw_errno(env, "cannot map " + name, errno);
    mappings_[name] = {base, rounded};
    auto view = Napi::ArrayBuffer::New(env, base, size);
    buffers_.Value().Set(name, view);
    return view;
  }

  // write(map, offset, bytes): into the value of a BPF_F_MMAPABLE array, through a window that is closed again: what is
  // mapped counts as this process's memory
  Napi::Value write(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    size_t offset = info[1].As<Napi::Number>().Int64Value();
    auto bytes = bytes_of(info[2], "bytes");
    size_t size = static_cast<size_t>((bpf_map__value_size(m) + 7) & ~7u) * bpf_map__max_entries(m);
    if (offset > size || bytes.size > size - offset) throw Napi::RangeError::New(env, "offset outside of the map");
    size_t page = sysconf(_SC_PAGESIZE), start = offset & ~(page - 1);
    size_t length = (offset - start + bytes.size + page - 1) & ~(page - 1);
    void *base = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), static_cast<off_t>(start));
    if (base == MAP_FAILED) throw_errno(env, std::string("cannot map ") + bpf_map__name(m), errno);
    memcpy(static_cast<uint8_t *>(base) + (offset - start), bytes.data, bytes.size);
    munmap(base, length);
    return env.Undefined();
  }

  // read(map, offset, length): Buffer, the other way round
  Napi::Value read(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    size_t offset = info[1].As<Napi::Number>().Int64Value(), wanted = info[2].As<Napi::Number>().Int64Value();
    size_t size = static_cast<size_t>((bpf_map__value_size(m) + 7) & ~7u) * bpf_map__max_entries(m);
    if (offset > size || wanted > size - offset) throw Napi::RangeError::New(env, "offset outside of the map");
    size_t page = sysconf(_SC_PAGESIZE), start = offset & ~(page - 1);
    size_t length = (offset - start + wanted + page - 1) & ~(page - 1);
    void *base = mmap(nullptr, length, PROT_READ, MAP_SHARED, bpf_map__fd(m), static_cast<off_t>(start));
    if (base == MAP_FAILED) throw_errno(env, std::string("cannot map ") + bpf_map__name(m), errno);
    auto copy = Napi::Buffer<uint8_t>::Copy(env, static_cast<uint8_t *>(base) + (offset - start), wanted);
    munmap(base, length);
    return copy;
  }

  Napi::Value fd(const Napi::CallbackInfo &info) { return Napi::Number::New(info.Env(), bpf_map__fd(map(info))); }

  // mapId(map): number, the kernel's
  Napi::Value map_id(const Napi::CallbackInfo &info) {
    bpf_map_info data = {};
    __u32 size = sizeof data;
    if (bpf_obj_get_info_by_fd(bpf_map__fd(map(info)), &data, &size)) throw_errno(info.Env(), "cannot ask of a map", errno);
    return Napi::Number::New(info.Env(), data.id);
  }

  // insert(map, key, value): boolean; false if the key was there
  Napi::Value insert(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto *m = map(info);
    auto key = bytes_of(info[1], "key"), value = bytes_of(info[2], "value");
    if (key.size != bpf_map__key_size(m) || value.size != bpf_map__value_size(m))
      throw Napi::RangeError::New(env, "key or value of the wrong size");
    int error = bpf_map_update_elem(bpf_map__fd(m), key.data, value.data, BPF_NOEXIST);
    if (error && error != -EEXIST) throw_errno(env, std::string("cannot write map ") + bpf_map__name(m), error);
    return Napi::Boolean::New(env, !error);
  }

  // forget(program, map): an iterator will not be run any more; the map that it read lives no longer because of it
  Napi::Value forget(const Napi::CallbackInfo &info) {
    auto *program = bpf_object__find_program_by_name(object_, info[0].As<Napi::String>().Utf8Value().c_str());
    auto taken = taken_.find(info[1].As<Napi::String>().Utf8Value());
    auto *other = bpf_object__find_map_by_name(object_, "settings");
    if (program) bpf_program__unload(program);
    // libbpf closes a map's descriptor with the object, or when another takes its place
    if (taken == taken_.end()) return info.Env().Undefined();
    bpf_map__reuse_fd(taken->second, bpf_map__fd(other));
    taken_.erase(taken);
    return info.Env().Undefined();
  }

  // iterate(program, map?: number): runs a BPF iterator to its end, over a map if its descriptor is given
  Napi::Value iterate(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto name = info[0].As<Napi::String>().Utf8Value();
    auto *program = bpf_object__find_program_by_name(object_, name.c_str());
    if (!program) throw Napi::Error::New(env, "no program " + name);
    bpf_iter_link_info over = {};
    DECLARE_LIBBPF_OPTS(bpf_link_create_opts, options);
    if (info[1].IsNumber()) {
      over.map.map_fd = info[1].As<Napi::Number>().Int32Value();
      options.iter_info = &over;
      options.iter_info_len = sizeof over;
    }
    Descriptor link{bpf_link_create(fd_of(program), 0, BPF_TRACE_ITER, &options)};
    if (link.fd < 0) throw_errno(env, "cannot attach " + name, errno);
    Descriptor iter{bpf_iter_create(link.fd)};
    if (iter.fd < 0) throw_errno(env, "cannot run " + name, errno);
    char buffer[4096];
    for (;;) {
      ssize_t n = ::read(iter.fd, buffer, sizeof buffer);
      if (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN))) continue;
      if (n < 0) throw_errno(env, "cannot run " + name, errno);
      break;
    }
    return env.Undefined();
  }

  // stats(): [{program, instructions, runs, nanoseconds}]; runs count while enableStats() is on
  Napi::Value stats(const Napi::CallbackInfo &info) {
    auto env = info.Env();
    auto all = Napi::Array::New(env);
    bpf_program *program;
    bpf_object__for_each_program(program, object_) {
      int fd = fd_of(program);
      if (fd < 0) continue;
      bpf_prog_info data = {};
      __u32 size = sizeof data;
      if (bpf_obj_get_info_by_fd(fd, &data, &size)) continue;
      auto one = Napi::Object::New(env);
      one.Set("program", bpf_program__name(program));
      one.Set("verified", Napi::Number::New(env, data.verified_insns));
      one.Set("missed", Napi::Number::New(env, static_cast<double>(data.recursion_misses)));
      one.Set("runs", Napi::Number::New(env, static_cast<double>(data.run_cnt)));
      one.Set("nanoseconds", Napi::Number::New(env, static_cast<double>(data.run_time_ns)));
      all.Set(all.Length(), one);
    }
    return all;
  }
};

// hookParameters(hook, attachment): number of arguments that a program on this LSM hook is given, -1 = there is no way
// to be called for it
Napi::Value hook_parameters(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  std::unique_ptr<btf, void (*)(btf *)> kernel(btf__load_vmlinux_btf(), btf__free);
  if (libbpf_get_error(kernel.get())) {
    kernel.release();
    return Napi::Number::New(env, -1);
  }
  auto hook = info[0].As<Napi::String>().Utf8Value();
  return Napi::Number::New(env, target_of(kernel.get(), hook, attachment_of(info[1])).parameters);
}

// hasFunction(name): the kernel's BTF has a function of this name
Napi::Value has_function(const Napi::CallbackInfo &info) {
  std::unique_ptr<btf, void (*)(btf *)> kernel(btf__load_vmlinux_btf(), btf__free);
  if (libbpf_get_error(kernel.get())) {
    kernel.release();
    return Napi::Boolean::New(info.Env(), false);
  }
  auto name = info[0].As<Napi::String>().Utf8Value();
  return Napi::Boolean::New(info.Env(), btf__find_by_name_kind(kernel.get(), name.c_str(), BTF_KIND_FUNC) >= 0);
}

// gracePeriod(): returns when every BPF program that was running when it was called has ended. Programs here are
// not sleepable and run inside RCU read sections; MEMBARRIER_CMD_GLOBAL is synchronize_rcu (membarrier(2)).
Napi::Value grace_period(const Napi::CallbackInfo &info) {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0)) throw_errno(info.Env(), "membarrier", errno);
  return info.Env().Undefined();
}

// enableStats(): number; a descriptor, and as long as it is open the kernel counts program runs
Napi::Value enable_stats(const Napi::CallbackInfo &info) {
  int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (fd < 0) throw_errno(info.Env(), "cannot enable BPF statistics", fd);
  return Napi::Number::New(info.Env(), fd);
}

// trim(): gives memory that was freed back to the kernel
Napi::Value trim(const Napi::CallbackInfo &info) {
  malloc_trim(0);
  return info.Env().Undefined();
}

// clockOffset(): CLOCK_REALTIME - CLOCK_BOOTTIME, ns
Napi::Value clock_offset(const Napi::CallbackInfo &info) {
  timespec real, boot;
  clock_gettime(CLOCK_REALTIME, &real);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  int64_t offset = (real.tv_sec - boot.tv_sec) * int64_t{1000000000} + real.tv_nsec - boot.tv_nsec;
  return Napi::BigInt::New(info.Env(), offset);
}

}  // namespace

void init_kernel(Napi::Env env, Napi::Object exports) {
  libbpf_set_print(keep_message);
  exports.Set("Kernel", Kernel::define(env));
  exports.Set("hookParameters", Napi::Function::New<hook_parameters>(env));
  exports.Set("hasFunction", Napi::Function::New<has_function>(env));
  exports.Set("gracePeriod", Napi::Function::New<grace_period>(env));
  exports.Set("trim", Napi::Function::New<trim>(env));
  exports.Set("clockOffset", Napi::Function::New<clock_offset>(env));
  exports.Set("enableStats", Napi::Function::New<enable_stats>(env));
}
