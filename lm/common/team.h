/* team.h - threads that work through the parts of one job together. */
#ifndef VCL_RUN_TEAM_H
#define VCL_RUN_TEAM_H

#include <stddef.h>

/* What part comes when, and on which thread, is chance: a part must write only what is its own. */
struct vcl_job {
    void (*work)(void *user, size_t part, unsigned thread);
    void *user;
    size_t parts;
};

struct vcl_team;

/* threads >= 1, the caller's own among them.  NULL where memory or threads are out. */
struct vcl_team *vcl_team_create(unsigned threads);
void vcl_team_destroy(struct vcl_team *team); /* NULL is fine */
unsigned vcl_team_threads(const struct vcl_team *team);
/* Returns when every part is done.  One thread at a time. */
void vcl_team_run(struct vcl_team *team, const struct vcl_job *job);

#endif
