/* A fake of NVIDIA's libcuda.so.1 for tests: see played.h for what it plays.

   It counts devices as CUDA does, by CUDA_DEVICE_ORDER and CUDA_VISIBLE_DEVICES, both read at
   cuInit. Without a "cuda" line it has no device. It computes nothing: every other call answers
   with CUDA_ERROR_STUB_LIBRARY. Names, numbers and structures are those of NVIDIA's cuda.h. */
#include "played.h"

#include <ctype.h>

enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  NOT_INITIALIZED = 3,
  STUB_LIBRARY = 34,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
};

static int ready, visible;
static struct card shown[MOST];

__attribute__((constructor)) static void loaded(void) { note("loaded", 0); }

static int by_bus_id(const void *left, const void *right) {
  return strcmp(((const struct card *)left)->bus_id, ((const struct card *)right)->bus_id);
}

/* All cards as CUDA numbers them before CUDA_VISIBLE_DEVICES is looked at. */
static int in_order(const struct played *p, struct card *cards) {
  const char *order = getenv("CUDA_DEVICE_ORDER");
  int count = 0;
  for (int i = 0; i < p->ordered; i++) {
    const struct card *card = card_of(p, p->order[i]);
    if (card) cards[count++] = *card;
  }
  if (order && !strcmp(order, "PCI_BUS_ID")) qsort(cards, (size_t)count, sizeof *cards, by_bus_id);
  return count;
}

/* The card that one entry of CUDA_VISIBLE_DEVICES names, or -1. */
static int named(const char *entry, const struct card *cards, int count) {
  int found = -1;
  if (isdigit((unsigned char)*entry)) return atoi(entry) < count ? atoi(entry) : -1;
  for (int i = 0; i < count; i++)
    if (*entry && !strncasecmp(cards[i].uuid, entry, strlen(entry))) {
      if (found >= 0) return -1;
      found = i;
    }
  return found;
}

static void choose(const struct played *p) {
  struct card cards[MOST];
  int count = in_order(p, cards);
  const char *given = getenv("CUDA_VISIBLE_DEVICES");
  char entries[2048];
  visible = 0;
  if (!given) {
    memcpy(shown, cards, sizeof shown);
    visible = count;
    return;
  }
  snprintf(entries, sizeof entries, "%s", given);
  for (char *entry = strtok(entries, ", "); entry && visible < MOST; entry = strtok(0, ", ")) {
    int index = named(entry, cards, count);
    if (index < 0) return;
    shown[visible++] = cards[index];
  }
}

EXPORTED int cuInit(unsigned flags) {
  struct played p;
  (void)flags;
  int answer = begin(&p, "cuInit", 0, __builtin_return_address(0));
  if (answer) return answer;
  choose(&p);
  ready = visible > 0;
  return ready ? SUCCESS : NO_DEVICE;
}

static int begin_call(const char *call, int device, void *caller) {
  struct played p;
  int answer = begin(&p, call, device >= 0 && device < visible ? shown[device].uuid : 0, caller);
  if (answer) return answer;
  if (!ready) return NOT_INITIALIZED;
  return device < visible ? SUCCESS : INVALID_DEVICE;
}
#define CALL(device)                                                         \
  int answer = begin_call(__func__, device, __builtin_return_address(0));    \
  if (answer) return answer;

EXPORTED int cuDriverGetVersion(int *version) {
  struct played p;
  int answer = begin(&p, __func__, 0, __builtin_return_address(0));
  *version = p.cuda_version;
  return answer;
}
EXPORTED int cuDeviceGetCount(int *count) {
  CALL(-1)
  *count = visible;
  return SUCCESS;
}
EXPORTED int cuDeviceGet(int *device, int ordinal) {
  CALL(ordinal)
  if (ordinal < 0) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}
static int uuid_bytes(unsigned char *out, const char *uuid) {
  int count = 0;
  for (const char *at = uuid + 4; *at && count < 16; at++) { /* after "GPU-" */
    unsigned value;
    if (*at == '-') continue;
    if (sscanf(at, "%2x", &value) != 1) return INVALID_VALUE;
    out[count++] = (unsigned char)value;
    at++;
  }
  return count == 16 ? SUCCESS : INVALID_VALUE;
}
EXPORTED int cuDeviceGetUuid(unsigned char *uuid, int device) {
  CALL(device)
  return uuid_bytes(uuid, shown[device].uuid);
}
EXPORTED int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
  CALL(device)
  return uuid_bytes(uuid, shown[device].uuid);
}
EXPORTED int cuDeviceGetName(char *name, int size, int device) {
  CALL(device)
  snprintf(name, (size_t)size, "%s", shown[device].name);
  return SUCCESS;
}
EXPORTED int cuDeviceGetPCIBusId(char *bus_id, int size, int device) {
  CALL(device)
  snprintf(bus_id, (size_t)size, "%s", shown[device].bus_id);
  return SUCCESS;
}
EXPORTED int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  CALL(device)
  *bytes = (size_t)shown[device].total;
  return SUCCESS;
}

static const char *const said = "the fake driver computes nothing";
EXPORTED int cuGetErrorString(int number, const char **text) {
  (void)number;
  *text = said;
  return SUCCESS;
}
EXPORTED int cuGetErrorName(int number, const char **text) { return cuGetErrorString(number, text); }

static int refused(void) {
  note("(another call)", __builtin_return_address(0));
  return STUB_LIBRARY;
}
#define REFUSED(name)                             \
  EXPORTED int name(void) {                       \
    note(#name, __builtin_return_address(0));     \
    return STUB_LIBRARY;                          \
  }
REFUSED(cuCtxCreate_v2)
REFUSED(cuDevicePrimaryCtxRetain)
REFUSED(cuTensorMapEncodeTiled)

EXPORTED int cuGetProcAddress_v2(const char *symbol, void **function, int version,
                                 unsigned long long flags, int *status);
EXPORTED int cuGetProcAddress(const char *symbol, void **function, int version,
                              unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, 0);
}

static const struct {
  const char *name;
  void *function;
} functions[] = {
    {"cuInit", (void *)cuInit},
    {"cuDriverGetVersion", (void *)cuDriverGetVersion},
    {"cuDeviceGetCount", (void *)cuDeviceGetCount},
    {"cuDeviceGet", (void *)cuDeviceGet},
    {"cuDeviceGetUuid", (void *)cuDeviceGetUuid_v2},
    {"cuDeviceGetName", (void *)cuDeviceGetName},
    {"cuDeviceGetPCIBusId", (void *)cuDeviceGetPCIBusId},
    {"cuDeviceTotalMem", (void *)cuDeviceTotalMem_v2},
    {"cuGetErrorString", (void *)cuGetErrorString},
    {"cuGetErrorName", (void *)cuGetErrorName},
    {"cuCtxCreate", (void *)cuCtxCreate_v2},
    {"cuDevicePrimaryCtxRetain", (void *)cuDevicePrimaryCtxRetain},
    {"cuGetProcAddress", (void *)cuGetProcAddress_v2},
};

EXPORTED int cuGetProcAddress_v2(const char *symbol, void **function, int version,
                                 unsigned long long flags, int *status) {
  (void)version;
  (void)flags;
  *function = (void *)refused;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
    if (!strcmp(functions[i].name, symbol)) *function = functions[i].function;
  if (status) *status = 0;
  return SUCCESS;
}
