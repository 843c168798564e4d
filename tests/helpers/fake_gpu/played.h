/* What both fake libraries share: the file that says what to play, and the log of calls.

   Both files are in the folder from which the library was loaded, so that a process needs nothing
   but LD_LIBRARY_PATH. "played" is read anew at every call. One thing a line:

     driver VERSION CUDA_VERSION
     card UUID BUS_ID TOTAL USED RESERVED NAME...
     process CARD PID BYTES TOLD LIVES_WITH     CARD: index of a card line. TOLD 0: bytes not told.
     mps CARD PID BYTES TOLD LIVES_WITH         LIVES_WITH: gone with this process; 0: stays.
     answer CALL UUID_OR_* NUMBER               the call answers with this error
     hold CALL                                  the call returns when this line is gone
     cuda UUID...                               the cards in CUDA's default order */
#ifndef PLAYED_H
#define PLAYED_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
#define MOST_PROCESSES 64
#define EXPORTED __attribute__((visibility("default")))

typedef unsigned long long bytes_t;

struct card {
  char uuid[96], bus_id[32], name[96];
  bytes_t total, used, reserved;
};
struct process {
  int card, mps, told, lives_with;
  unsigned pid;
  bytes_t bytes;
};
struct answer {
  char call[64], uuid[96];
  int number;
};
struct played {
  char driver[32];
  int cuda_version, cards, processes, answers, holds, ordered;
  struct card card[MOST];
  struct process process[MOST_PROCESSES];
  struct answer answer[MOST];
  char hold[MOST][64], order[MOST][96];
};

static char here[4096];

__attribute__((constructor)) static void find_folder(void) {
  Dl_info info;
  if (!dladdr((void *)find_folder, &info) || !info.dli_fname) return;
  snprintf(here, sizeof here, "%s", info.dli_fname);
  char *end = strrchr(here, '/');
  if (end) *end = 0;
}

/* Whether a process still holds what it held: a zombie has given everything back. */
static int lives(int pid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[length] = 0;
  char *after = strrchr(text, ')');
  return after && after[1] && after[2] != 'Z' && after[2] != 'X';
}

static void read_line(struct played *p, char *line) {
  struct process q = {0};
  struct card *c = &p->card[p->cards];
  struct answer *a = &p->answer[p->answers];
  int begin = 0;
  if (sscanf(line, "driver %31s %d", p->driver, &p->cuda_version) == 2) return;
  if (p->cards < MOST &&
      sscanf(line, "card %95s %31s %llu %llu %llu %95[^\n]", c->uuid, c->bus_id, &c->total,
             &c->used, &c->reserved, c->name) == 6)
    p->cards++;
  else if (p->answers < MOST &&
           sscanf(line, "answer %63s %95s %d", a->call, a->uuid, &a->number) == 3)
    p->answers++;
  else if (p->holds < MOST && sscanf(line, "hold %63s", p->hold[p->holds]) == 1)
    p->holds++;
  else if (sscanf(line, "process %d %u %llu %d %d", &q.card, &q.pid, &q.bytes, &q.told,
                  &q.lives_with) == 5 ||
           (q.mps = sscanf(line, "mps %d %u %llu %d %d", &q.card, &q.pid, &q.bytes, &q.told,
                           &q.lives_with) == 5)) {
    if (p->processes < MOST_PROCESSES && (!q.lives_with || lives(q.lives_with)))
      p->process[p->processes++] = q;
  } else if (sscanf(line, "cuda %n", &begin) == 0 && begin > 0) {
    for (char *word = strtok(line + begin, " "); word && p->ordered < MOST; word = strtok(0, " "))
      snprintf(p->order[p->ordered++], sizeof p->order[0], "%s", word);
  }
}

static void read_played(struct played *p) {
  char path[4200], line[2048];
  memset(p, 0, sizeof *p);
  snprintf(path, sizeof path, "%s/played", here);
  FILE *file = fopen(path, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    read_line(p, line);
  }
  fclose(file);
}

/* One line of the log: pid, call, CUDA_VISIBLE_DEVICES, and the file of the code that called. */
static void note(const char *call, void *caller) {
  char path[4200], line[1024];
  Dl_info info;
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  const char *from = caller && dladdr(caller, &info) && info.dli_fname ? info.dli_fname : "?";
  const char *slash = strrchr(from, '/');
  int length = snprintf(line, sizeof line, "%d\t%s\t%s\t%s\n", (int)getpid(), call,
                        visible ? visible : "(unset)", slash ? slash + 1 : from);
  snprintf(path, sizeof path, "%s/calls", here);
  int log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (log < 0) return;
  if (length > 0 && write(log, line, (size_t)length) < 0) abort();
  close(log);
}

static int held(const struct played *p, const char *call) {
  for (int i = 0; i < p->holds; i++)
    if (!strcmp(p->hold[i], call)) return 1;
  return 0;
}

/* Note the call, wait while it is held; returns the error that it is to answer with, or 0. */
static int begin(struct played *p, const char *call, const char *uuid, void *caller) {
  note(call, caller);
  for (read_played(p); held(p, call); read_played(p))
    nanosleep(&(struct timespec){0, 5000000}, 0);
  for (int i = 0; i < p->answers; i++) {
    const struct answer *a = &p->answer[i];
    if (!strcmp(a->call, call) && (a->uuid[0] == '*' || (uuid && !strcmp(a->uuid, uuid))))
      return a->number;
  }
  return 0;
}

static const struct card *card_of(const struct played *p, const char *uuid) {
  for (int i = 0; i < p->cards; i++)
    if (!strcmp(p->card[i].uuid, uuid)) return &p->card[i];
  return 0;
}

#endif
