// SPDX-License-Identifier: Apache-2.0
// The decision code over any bytes at all as tables, asked everything there is to ask. An input is the region, a name,
// and in the last byte the name's length.
#include <cstdlib>
#include <memory>

#include "decision.h"

namespace {

void require(bool holds) {
  if (!holds) abort();
}

void judge(Tables t, uint32_t object, uint32_t decide, uint32_t held, uint32_t program, const uint8_t *name, size_t size) {
  const uint16_t classes[SUBJECT_CLASSES] = {static_cast<uint16_t>(program), 0, 1, COLUMN_LIMIT - 1};
  judgement j = {};
  judge_object(t, HEADER(t, cells), object, classes, SUBJECT_CLASSES, decide, held, &j);
  require(j.waits <= WAITING_LIMIT);
  // a chain without an end never passes in silence
  require(!j.failed || j.fired || j.audit || (j.waits && j.waiting[j.waits - 1] & WAITING_FIRED));
  for (uint32_t i = 0; i < j.waits; i++) are_listed(t, j.waiting[i], name, size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!size) return 0;
  size_t length = data[--size];
  if (length > size) length = size;
  size -= length;
  const uint8_t *name = data + size;
  // of exactly this size, so that the sanitizer sees the first byte behind it
  std::unique_ptr<uint8_t[]> region(new uint8_t[size]);
  memcpy(region.get(), data, size);
  Tables t = {region.get(), static_cast<uint32_t>(size)};
  uint32_t program = subject_class_of(t, name, length);
  for (uint32_t decide = 0; decide < DECIDE_COUNT; decide++) {
    for (uint32_t held : {0, 255}) {
      for (uint32_t domain = 0; domain < DOMAIN_COUNT; domain++)
        judge(t, object_of(t, domain, name, length), decide, held, program, name, length);
      judge(t, HEADER(t, unnamed), decide, held, program, name, length);
    }
  }
  return 0;
}
