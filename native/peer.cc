// SPDX-License-Identifier: Apache-2.0
// Who is at the other end of a unix socket.
#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "addon.h"

namespace {

// peer(fd): {pid, uid, gids}, as the kernel noted them when the other end connected; gids are all of its groups
Napi::Value peer(const Napi::CallbackInfo &info) {
  auto env = info.Env();
  int fd = info[0].As<Napi::Number>().Int32Value();
  ucred who = {};
  socklen_t size = sizeof who;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size)) throw_errno(env, "cannot tell who connected", errno);
  std::vector<gid_t> groups(64);
  for (;;) {
    size = groups.size() * sizeof(gid_t);
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size)) break;
    // ERANGE: size says how much there is
    if (errno != ERANGE) throw_errno(env, "cannot tell who connected", errno);
    groups.resize(size / sizeof(gid_t));
  }
  groups.resize(size / sizeof(gid_t));
  auto gids = Napi::Array::New(env);
  gids.Set(0u, who.gid);
  for (gid_t group : groups) gids.Set(gids.Length(), group);
  auto result = Napi::Object::New(env);
  result.Set("pid", who.pid);
  result.Set("uid", who.uid);
  result.Set("gids", gids);
  return result;
}

}  // namespace

void init_peer(Napi::Env env, Napi::Object exports) { exports.Set("peer", Napi::Function::New<peer>(env)); }
