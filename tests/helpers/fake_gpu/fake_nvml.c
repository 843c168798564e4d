/* A fake of NVIDIA's libnvidia-ml.so.1 for tests: see played.h for what it plays.

   Names, numbers and structures are those of NVIDIA's nvml.h. Cards are counted in the order of
   the file, which is that of their bus ids. */
#include "played.h"

enum {
  SUCCESS = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  VERSION_MISMATCH = 25,
};

typedef struct handle {
  char uuid[96];
} *device_t;

static int opened;
static struct handle handles[MOST];

static int begin_call(struct played *p, const char *call, device_t device, void *caller) {
  int answer = begin(p, call, device ? device->uuid : 0, caller);
  if (answer) return answer;
  return opened > 0 ? SUCCESS : UNINITIALIZED;
}
#define CALL(device)                                                               \
  struct played p;                                                                 \
  int answer = begin_call(&p, __func__, device, __builtin_return_address(0));      \
  if (answer) return answer;
#define CARD                                          \
  const struct card *card = card_of(&p, device->uuid); \
  if (!card) return 15; /* GPU_IS_LOST */

static device_t handle_of(const char *uuid) {
  for (int i = 0; i < MOST; i++) {
    if (!handles[i].uuid[0]) snprintf(handles[i].uuid, sizeof handles[i].uuid, "%s", uuid);
    if (!strcmp(handles[i].uuid, uuid)) return &handles[i];
  }
  return 0;
}

static int copy(char *to, unsigned size, const char *from) {
  if (strlen(from) >= size) return INSUFFICIENT_SIZE;
  strcpy(to, from);
  return SUCCESS;
}

static int open_library(const char *call, void *caller) {
  struct played p;
  int answer = begin(&p, call, 0, caller);
  if (answer) return answer;
  __atomic_add_fetch(&opened, 1, __ATOMIC_SEQ_CST);
  return SUCCESS;
}
/* All three are one call to the file that says what to play. */
EXPORTED int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return open_library("nvmlInit", __builtin_return_address(0));
}
EXPORTED int nvmlInit_v2(void) { return open_library("nvmlInit", __builtin_return_address(0)); }
EXPORTED int nvmlInit(void) { return open_library("nvmlInit", __builtin_return_address(0)); }
EXPORTED int nvmlShutdown(void) {
  CALL(0)
  __atomic_sub_fetch(&opened, 1, __ATOMIC_SEQ_CST);
  return SUCCESS;
}

EXPORTED const char *nvmlErrorString(int number) {
  static _Thread_local char text[48];
  snprintf(text, sizeof text, "error %d of the fake driver", number);
  return text;
}

EXPORTED int nvmlSystemGetDriverVersion(char *version, unsigned size) {
  CALL(0)
  return copy(version, size, p.driver);
}
EXPORTED int nvmlSystemGetNVMLVersion(char *version, unsigned size) {
  CALL(0)
  char text[48];
  snprintf(text, sizeof text, "%d.%s", p.cuda_version / 1000, p.driver);
  return copy(version, size, text);
}
EXPORTED int nvmlSystemGetCudaDriverVersion(int *version) {
  CALL(0)
  *version = p.cuda_version;
  return SUCCESS;
}
EXPORTED int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  CALL(0)
  *version = p.cuda_version;
  return SUCCESS;
}

EXPORTED int nvmlDeviceGetCount_v2(unsigned *count) {
  CALL(0)
  *count = (unsigned)p.cards;
  return SUCCESS;
}
EXPORTED int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
  CALL(0)
  if (index >= (unsigned)p.cards) return INVALID_ARGUMENT;
  *device = handle_of(p.card[index].uuid);
  return SUCCESS;
}
EXPORTED int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *device) {
  CALL(0)
  if (!card_of(&p, uuid)) return NOT_FOUND;
  *device = handle_of(uuid);
  return SUCCESS;
}

EXPORTED int nvmlDeviceGetUUID(device_t device, char *uuid, unsigned size) {
  CALL(device)
  CARD
  return copy(uuid, size, card->uuid);
}
EXPORTED int nvmlDeviceGetName(device_t device, char *name, unsigned size) {
  CALL(device)
  CARD
  return copy(name, size, card->name);
}
struct pci {
  char legacy[16];
  unsigned domain, bus, device, ids, subsystem;
  char bus_id[32];
};
EXPORTED int nvmlDeviceGetPciInfo_v3(device_t device, struct pci *pci) {
  CALL(device)
  CARD
  memset(pci, 0, sizeof *pci);
  sscanf(card->bus_id, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
  snprintf(pci->legacy, sizeof pci->legacy, "%04x:%02x:%02x.0", pci->domain & 0xffff,
           pci->bus & 0xff, pci->device & 0xff);
  return copy(pci->bus_id, sizeof pci->bus_id, card->bus_id);
}
EXPORTED int nvmlDeviceGetMigMode(device_t device, unsigned *now, unsigned *pending) {
  CALL(device)
  (void)now;
  (void)pending;
  return NOT_SUPPORTED;
}

static bytes_t taken(const struct played *p, const struct card *card) {
  bytes_t sum = card->used;
  for (int i = 0; i < p->processes; i++)
    if (&p->card[p->process[i].card] == card) sum += p->process[i].bytes;
  return sum;
}
struct memory {
  bytes_t total, free, used;
};
struct memory_v2 {
  unsigned version;
  bytes_t total, reserved, free, used;
};
EXPORTED int nvmlDeviceGetMemoryInfo(device_t device, struct memory *memory) {
  CALL(device)
  CARD
  memory->total = card->total;
  memory->used = taken(&p, card) + card->reserved;
  memory->free = memory->total - memory->used;
  return SUCCESS;
}
EXPORTED int nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *memory) {
  CALL(device)
  CARD
  if (memory->version != (sizeof *memory | 2 << 24)) return VERSION_MISMATCH;
  memory->total = card->total;
  memory->reserved = card->reserved;
  memory->used = taken(&p, card);
  memory->free = memory->total - memory->used - memory->reserved;
  return SUCCESS;
}

struct listed {
  unsigned pid;
  bytes_t bytes;
  unsigned gpu_instance, compute_instance;
};
static int list(const struct played *p, const struct card *card, int mps, unsigned *count,
                struct listed *out) {
  unsigned room = *count, found = 0;
  for (int i = 0; i < p->processes; i++) {
    const struct process *q = &p->process[i];
    if (&p->card[q->card] != card || q->mps != mps) continue;
    if (out && found < room)
      out[found] = (struct listed){q->pid, q->told ? q->bytes : ~0ull, ~0u, ~0u};
    found++;
  }
  *count = found;
  return found > (out ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}
#define LISTS(name, mps)                                                    \
  EXPORTED int name(device_t device, unsigned *count, struct listed *out) { \
    CALL(device)                                                            \
    CARD                                                                    \
    return list(&p, card, mps, count, out);                                 \
  }
LISTS(nvmlDeviceGetComputeRunningProcesses_v2, 0)
LISTS(nvmlDeviceGetComputeRunningProcesses_v3, 0)
LISTS(nvmlDeviceGetMPSComputeRunningProcesses_v2, 1)
LISTS(nvmlDeviceGetMPSComputeRunningProcesses_v3, 1)
