// SPDX-License-Identifier: Apache-2.0
// Ring buffers on the event loop: records of all rings are gathered into one buffer, and JavaScript is called
// once for many of them. No object per record, no crossing per record. A ring's consumer position moves only once
// JavaScript has returned, so what it had not kept when the process was killed is read again by the next.
// libbpf's reader moves it before that; the layout is that of kernel/bpf/ringbuf.c.
#include <bpf/bpf.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "addon.h"

namespace {

// Of each ring in a batch, and a record more: none waits long for a flood in another, nor what was told for being written.
constexpr size_t kRingBytes = 8 << 10;

// A page with the consumer's position, one with the producer's, and the data twice, so that no record is cut.
struct Ring {
  uint32_t id;    // the map's, which no other has until the node starts anew
  uint64_t size;  // bytes of data
  uint64_t *consumer = nullptr;
  uint8_t *producer = nullptr;
  uint64_t next = 0;  // behind what the present batch holds
  bool full = false;  // the batch holds as much of it as any may
  uint64_t busy_since = 0;  // ns: there has been something to read ever since; 0 = there was not
  double pace = 0;  // bytes per second, of full batches and all that the loop does between them; 0 = not known

  uint64_t written() const { return __atomic_load_n(reinterpret_cast<uint64_t *>(producer), __ATOMIC_ACQUIRE); }
  uint64_t read() const { return __atomic_load_n(consumer, __ATOMIC_RELAXED); }
};

// One batch: for each record u32 ring, u32 length, u64 position in the ring, then its bytes, padded to 8.
class Rings : public Napi::ObjectWrap<Rings> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Rings",
                       {InstanceMethod<&Rings::close>("close"), InstanceMethod<&Rings::drain>("drain"),
                        InstanceMethod<&Rings::ids>("ids"), InstanceMethod<&Rings::pace>("pace"),
                        InstanceMethod<&Rings::positions>("positions")});
  }

  // new Rings(fds: number[], onBatch: (batch: Buffer) => void)
  explicit Rings(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Rings>(info), env_(info.Env()) {
    auto fds = info[0].As<Napi::Array>();
    callback_ = Napi::Persistent(info[1].As<Napi::Function>());
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) throw_errno(env_, "cannot read ring buffers", errno);
    for (uint32_t i = 0; i < fds.Length(); i++) {
      int error = add(Napi::Value(fds.Get(i)).As<Napi::Number>().Int32Value());
      if (!error) continue;
      release();
      throw_errno(env_, "cannot read ring buffer", error);
    }
    uv_loop_t *loop;
    napi_get_uv_event_loop(env_, &loop);
    poll_ = new uv_poll_t;
    poll_->data = this;
    uv_poll_init(loop, poll_, epoll_);
    uv_poll_start(poll_, UV_READABLE, on_readable);
    napi_add_env_cleanup_hook(env_, on_cleanup, this);
  }

  ~Rings() override { release(); }

 private:
  Napi::Env env_;
  int epoll_ = -1;
  uv_poll_t *poll_ = nullptr;
  Napi::FunctionReference callback_;
  std::vector<Ring> rings_;
  std::vector<uint8_t> batch_;
  bool delivering_ = false;

  static size_t page() { return sysconf(_SC_PAGESIZE); }

  // 0 or an errno
  int add(int fd) {
    bpf_map_info map = {};
    __u32 length = sizeof map;
    if (bpf_obj_get_info_by_fd(fd, &map, &length)) return errno;
    Ring ring = {map.id, map.max_entries};
    void *consumer = mmap(nullptr, page(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (consumer == MAP_FAILED) return errno;
    ring.consumer = static_cast<uint64_t *>(consumer);
    rings_.push_back(ring);
    void *producer = mmap(nullptr, page() + 2 * ring.size, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(page()));
    if (producer == MAP_FAILED) return errno;
    rings_.back().producer = static_cast<uint8_t *>(producer);
    epoll_event wanted = {EPOLLIN, {}};
    return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &wanted) ? errno : 0;
  }

  void release() {
    if (poll_) {
      uv_poll_stop(poll_);
      uv_close(reinterpret_cast<uv_handle_t *>(poll_), [](uv_handle_t *h) { delete reinterpret_cast<uv_poll_t *>(h); });
      poll_ = nullptr;
      napi_remove_env_cleanup_hook(env_, on_cleanup, this);
    }
    for (auto &ring : rings_) {
      munmap(ring.consumer, page());
      if (ring.producer) munmap(ring.producer, page() + 2 * ring.size);
    }
    rings_.clear();
    if (epoll_ >= 0) ::close(epoll_);
    epoll_ = -1;
  }

  static void on_cleanup(void *self) { static_cast<Rings *>(self)->release(); }

  // Appends what a ring has, up to a record that is still being written, and notes where that ends.
  void gather(uint32_t index) {
    auto &ring = rings_[index];
    const uint8_t *data = ring.producer + page();
    ring.next = ring.read();
    size_t most = batch_.size() + kRingBytes;
    while (batch_.size() < most && ring.next < ring.written()) {
      auto *record = data + (ring.next & (ring.size - 1));
      uint32_t length = __atomic_load_n(reinterpret_cast<const uint32_t *>(record), __ATOMIC_ACQUIRE);
      if (length & BPF_RINGBUF_BUSY_BIT) break;
      bool discarded = length & BPF_RINGBUF_DISCARD_BIT;
      length &= ~BPF_RINGBUF_DISCARD_BIT;
      size_t padded = (length + 7) & ~size_t{7};
      if (!discarded) {
        size_t at = batch_.size();
        uint32_t header[2] = {index, length};
        batch_.resize(at + 16 + padded);
        memcpy(batch_.data() + at, header, 8);
        memcpy(batch_.data() + at + 8, &ring.next, 8);
        memcpy(batch_.data() + at + 16, record + BPF_RINGBUF_HDR_SZ, length);
      }
      ring.next += BPF_RINGBUF_HDR_SZ + padded;
    }
    ring.full = batch_.size() >= most;
  }

  // Gives JavaScript a batch, and lets the programs have its room if that has taken it.
  void consume() {
    if (delivering_) return;
    for (uint32_t i = 0; i < rings_.size(); i++) gather(i);
    if (!batch_.empty()) {
      Napi::HandleScope scope(env_);
      auto buffer = Napi::Buffer<uint8_t>::Copy(env_, batch_.data(), batch_.size());
      batch_.clear();
      delivering_ = true;
      try {
        callback_.MakeCallback(env_.Global(), {buffer});
      } catch (const Napi::Error &error) {
        delivering_ = false;
        napi_fatal_exception(env_, error.Value());
        return;
      }
      delivering_ = false;
    }
    uint64_t now = uv_hrtime();
    for (auto &ring : rings_) {
      uint64_t bytes = ring.next - ring.read();
      if (bytes) __atomic_store_n(ring.consumer, ring.next, __ATOMIC_SEQ_CST);
      if (ring.full && ring.busy_since) {
        double pace = bytes * 1e9 / (now - ring.busy_since);
        ring.pace = ring.pace ? (3 * ring.pace + pace) / 4 : pace;
      }
      ring.busy_since = ring.written() > ring.next ? now : 0;
    }
  }

  // One batch each time the loop comes round, so that a flood leaves turns to others: what is left keeps the
  // descriptor readable.
  static void on_readable(uv_poll_t *handle, int, int) { static_cast<Rings *>(handle->data)->consume(); }

  // Takes what is there now, up to records that are still being written.
  void consume_all() {
    std::vector<uint64_t> ends;
    for (auto &ring : rings_) ends.push_back(ring.written());
    for (bool more = true; more && !delivering_;) {
      std::vector<uint64_t> before;
      for (auto &ring : rings_) before.push_back(ring.read());
      consume();
      more = false;
      // JavaScript may have closed them
      for (size_t i = 0; i < rings_.size(); i++)
        more |= rings_[i].read() > before[i] && rings_[i].read() < ends[i];
    }
  }

  Napi::Value drain(const Napi::CallbackInfo &info) {
    consume_all();
    return info.Env().Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo &info) {
    consume_all();
    release();
    return info.Env().Undefined();
  }

  // ids(): number[], the maps'
  Napi::Value ids(const Napi::CallbackInfo &info) {
    auto all = Napi::Array::New(info.Env());
    for (auto &ring : rings_) all.Set(all.Length(), ring.id);
    return all;
  }

  // pace(ring: number): number, bytes per second; 0 = there have not been two full batches on end
  Napi::Value pace(const Napi::CallbackInfo &info) {
    uint32_t ring = info[0].As<Napi::Number>().Uint32Value();
    return Napi::Number::New(info.Env(), ring < rings_.size() ? rings_[ring].pace : 0);
  }

  // positions(): [read, written][], as the programs see them
  Napi::Value positions(const Napi::CallbackInfo &info) {
    auto all = Napi::Array::New(info.Env());
    for (auto &ring : rings_) {
      auto one = Napi::Array::New(info.Env(), 2);
      one.Set(0u, static_cast<double>(ring.read()));
      one.Set(1u, static_cast<double>(ring.written()));
      all.Set(all.Length(), one);
    }
    return all;
  }
};

}  // namespace

void init_ring(Napi::Env env, Napi::Object exports) { exports.Set("Rings", Rings::define(env)); }
