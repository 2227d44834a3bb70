// SPDX-License-Identifier: Apache-2.0
// Ring buffers on the event loop: records of all rings are gathered into one buffer, and JavaScript is called
// once for many of them. No object per record, no crossing per record.
#include <bpf/libbpf.h>
#include <uv.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "addon.h"

namespace {

constexpr size_t kBatchBytes = 1 << 20;

// One batch: for each record u32 ring, u32 length, then its bytes, padded to 8.
class Rings : public Napi::ObjectWrap<Rings> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Rings", {InstanceMethod<&Rings::close>("close"), InstanceMethod<&Rings::drain>("drain")});
  }

  // new Rings(fds: number[], onBatch: (batch: Buffer) => void)
  explicit Rings(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Rings>(info), env_(info.Env()) {
    auto fds = info[0].As<Napi::Array>();
    callback_ = Napi::Persistent(info[1].As<Napi::Function>());
    contexts_.reserve(fds.Length());
    for (uint32_t i = 0; i < fds.Length(); i++) {
      contexts_.push_back({this, i});
      int fd = Napi::Value(fds.Get(i)).As<Napi::Number>().Int32Value();
      int error = 0;
      if (!rings_)
        rings_ = ring_buffer__new(fd, on_record, &contexts_.back(), nullptr);
      else
        error = ring_buffer__add(rings_, fd, on_record, &contexts_.back());
      if (!rings_ || error) {
        error = error ? -error : errno;
        if (rings_) ring_buffer__free(rings_);
        rings_ = nullptr;
        throw_errno(env_, "cannot read ring buffer", error);
      }
    }
    batch_.reserve(kBatchBytes);
    uv_loop_t *loop;
    napi_get_uv_event_loop(env_, &loop);
    poll_ = new uv_poll_t;
    poll_->data = this;
    uv_poll_init(loop, poll_, ring_buffer__epoll_fd(rings_));
    uv_poll_start(poll_, UV_READABLE, on_readable);
    napi_add_env_cleanup_hook(env_, on_cleanup, this);
  }

  ~Rings() override { release(); }

 private:
  struct Context {
    Rings *rings;
    uint32_t index;
  };
  Napi::Env env_;
  ring_buffer *rings_ = nullptr;
  uv_poll_t *poll_ = nullptr;
  Napi::FunctionReference callback_;
  std::vector<Context> contexts_;
  std::vector<uint8_t> batch_;

  void release() {
    if (poll_) {
      uv_poll_stop(poll_);
      uv_close(reinterpret_cast<uv_handle_t *>(poll_), [](uv_handle_t *h) { delete reinterpret_cast<uv_poll_t *>(h); });
      poll_ = nullptr;
      napi_remove_env_cleanup_hook(env_, on_cleanup, this);
    }
    if (rings_) ring_buffer__free(rings_);
    rings_ = nullptr;
  }

  static void on_cleanup(void *self) { static_cast<Rings *>(self)->release(); }

  // A negative return stops libbpf's loop with the record consumed, so that JavaScript gets its turn.
  static int on_record(void *context, void *data, size_t size) {
    auto *c = static_cast<Context *>(context);
    auto &batch = c->rings->batch_;
    size_t at = batch.size();
    uint32_t header[2] = {c->index, static_cast<uint32_t>(size)};
    batch.resize(at + 8 + ((size + 7) & ~size_t{7}));
    memcpy(batch.data() + at, header, 8);
    memcpy(batch.data() + at + 8, data, size);
    return batch.size() >= kBatchBytes ? -EAGAIN : 0;
  }

  void deliver() {
    if (batch_.empty()) return;
    Napi::HandleScope scope(env_);
    auto buffer = Napi::Buffer<uint8_t>::Copy(env_, batch_.data(), batch_.size());
    batch_.clear();
    try {
      callback_.MakeCallback(env_.Global(), {buffer});
    } catch (const Napi::Error &error) {
      napi_fatal_exception(env_, error.Value());
    }
  }

  // At most one batch each time the loop comes round; what is left keeps the descriptor readable only until
  // the next record, so the rest is taken now.
  void consume() {
    while (rings_) {
      int n = ring_buffer__consume(rings_);
      bool more = n == -EAGAIN;
      deliver();
      if (!more) break;
    }
  }

  static void on_readable(uv_poll_t *handle, int, int) { static_cast<Rings *>(handle->data)->consume(); }

  // drain(): takes what is there now
  Napi::Value drain(const Napi::CallbackInfo &info) {
    consume();
    return info.Env().Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo &info) {
    consume();
    release();
    return info.Env().Undefined();
  }
};

}  // namespace

void init_ring(Napi::Env env, Napi::Object exports) { exports.Set("Rings", Rings::define(env)); }
