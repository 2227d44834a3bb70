// SPDX-License-Identifier: Apache-2.0
// The kernel's decision code (bpf/matcher.h), compiled for the host: what it says of a table here, the programs
// say of it there. It needs nothing of Node's, so that it can be tried by itself (test/fuzz).
#pragma once

#include <cstdint>
#include <cstring>

struct Tables {
  const uint8_t *data;
  uint32_t size;
};

// Outside of the table reads as zero; the kernel masks instead. A table that its compiler made never does.
template <typename T>
T table_read(Tables tables, uint32_t offset) {
  T value = 0;
  if (offset <= tables.size && tables.size - offset >= sizeof(T)) memcpy(&value, tables.data + offset, sizeof(T));
  return value;
}

#define TABLES Tables
#define TABLE(type, tables, offset) (table_read<type>((tables), (offset)))
extern "C++" {
#include "matcher.h"
}

inline uint32_t run(Tables t, uint32_t row, const uint8_t *bytes, size_t size) {
  uint32_t cells = HEADER(t, cells);
  for (size_t i = 0; i < size && row; i++) row = STEP(t, cells, row, COLUMN_BYTE + bytes[i]);
  return row;
}

inline uint32_t subject_class_of(Tables t, const uint8_t *name, size_t size) {
  uint32_t row = run(t, HEADER_OF(t, start, DOMAIN_PROGRAM), name, size);
  return EXCEPTION(t, HEADER(t, cells), row, COLUMN_SUBJECT, 0u);
}

// The object class of an input of a domain.
inline uint32_t object_of(Tables t, uint32_t domain, const uint8_t *input, size_t size) {
  uint32_t row = run(t, HEADER_OF(t, start, domain), input, size);
  uint32_t none = HEADER_OF(t, none, domain);
  return EXCEPTION(t, HEADER(t, cells), row, COLUMN_END, none);
}

// rule: its offset, with the flags of matcher.h or without; args: (argument NUL)*
inline bool are_listed(Tables t, uint32_t rule, const uint8_t *args, size_t size) {
  uint32_t row = run(t, RULE(t, rule & WAITING_RULE, uint32_t, args_start), args, size);
  return row && EXCEPTION(t, HEADER(t, cells), row, COLUMN_END, 0u);
}
